//! Matrices in the actor's own memory, on which the device works where they lie.
//!
//! While an operation works, its matrices belong to it: the result is moved in and comes back, and operands are shared
//! (`Rc`), so that nobody can change them meanwhile.

use std::rc::Rc;

use crate::abi;
use crate::error::Error;
use crate::waiting::Waiting;

/// An IEEE binary16, as bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct F16(pub u16);

/// The upper half of an IEEE binary32, as bits.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bf16(pub u16);

mod sealed {
    pub trait Sealed {
        const TYPE: u32;
    }
}

/// What a matrix may hold: `f32`, [`F16`], [`Bf16`].
pub trait Element: sealed::Sealed + Copy + Unpin + 'static {}

macro_rules! elements {
    ($($name:ty = $number:expr;)*) => {
        $(impl sealed::Sealed for $name {
            const TYPE: u32 = $number;
        }
        impl Element for $name {})*
    };
}

elements! {
    f32 = abi::F32;
    F16 = abi::F16;
    Bf16 = abi::BF16;
}

/// A row-major matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix<T> {
    values: Vec<T>,
    rows: u32,
    cols: u32,
}

impl<T: Element> Matrix<T> {
    /// A matrix of these values, row by row. `EINVAL`: their number is not rows times cols.
    pub fn new(rows: u32, cols: u32, values: Vec<T>) -> Result<Matrix<T>, Error> {
        if u64::from(rows) * u64::from(cols) != values.len() as u64 {
            return Err(Error::EINVAL);
        }
        Ok(Matrix { values, rows, cols })
    }
    /// Rows.
    pub fn rows(&self) -> u32 {
        self.rows
    }
    /// Columns.
    pub fn cols(&self) -> u32 {
        self.cols
    }
    /// The values, row by row.
    pub fn values(&self) -> &[T] {
        &self.values
    }
    /// The values, row by row, to be changed.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
    /// The values, row by row, without the matrix.
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    fn offset(&self) -> u32 {
        self.values.as_ptr() as usize as u32
    }
}

/// How `gemm` multiplies. The default: C = A B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GemmOptions {
    /// C = C + A B, the old C added once at the end.
    pub accumulate: bool,
    /// The first operand is the transposed of `a`.
    pub transpose_a: bool,
    /// The second operand is the transposed of `b`.
    pub transpose_b: bool,
}

/// C = A B, in place: takes `c` for its room (and, to accumulate, its values) and gives it back. `EINVAL`: the shapes
/// do not fit together. `EOVERFLOW`: more work than one operation may be.
pub async fn gemm<A: Element, B: Element, C: Element>(
    a: &Rc<Matrix<A>>,
    b: &Rc<Matrix<B>>,
    c: Matrix<C>,
    options: GemmOptions,
) -> Result<Matrix<C>, Error> {
    let (m, k) = if options.transpose_a { (a.cols, a.rows) } else { (a.rows, a.cols) };
    let (k_of_b, n) = if options.transpose_b { (b.cols, b.rows) } else { (b.rows, b.cols) };
    if (m, k, n) != (c.rows, k_of_b, c.cols) {
        return Err(Error::EINVAL);
    }
    let flag = |wanted: bool, flag: u32| if wanted { flag } else { 0 };
    let issue = |owned: &mut (Matrix<C>, Rc<Matrix<A>>, Rc<Matrix<B>>)| {
        let (c, a, b) = (&owned.0, &owned.1, &owned.2);
        let gemm = abi::Gemm {
            a: a.offset(),
            b: b.offset(),
            c: c.offset(),
            m,
            n,
            k,
            lda: a.cols,
            ldb: b.cols,
            ldc: c.cols,
            a_type: <A as sealed::Sealed>::TYPE,
            b_type: <B as sealed::Sealed>::TYPE,
            c_type: <C as sealed::Sealed>::TYPE,
            flags: flag(options.accumulate, abi::GEMM_ACCUMULATE)
                | flag(options.transpose_a, abi::GEMM_TRANSPOSE_A)
                | flag(options.transpose_b, abi::GEMM_TRANSPOSE_B),
            reserved: 0,
        };
        // SAFETY: the struct is read at the call; the matrices it names are on the heap and the operation's.
        unsafe { abi::gemm(&gemm, abi::size_of::<abi::Gemm>()) }
    };
    let (status, (c, _, _)) = Waiting::new((c, Rc::clone(a), Rc::clone(b)), issue).await?;
    Error::check(status).map(|_| c)
}

/// An operation over the rows of `x`, in place. A `y` of one row serves all rows of `x`.
async fn rows(kind: u32, x: Matrix<f32>, y: Option<&Rc<Matrix<f32>>>, eps: f32) -> Result<Matrix<f32>, Error> {
    if let Some(y) = y {
        if y.cols != x.cols || (y.rows != x.rows && y.rows != 1) {
            return Err(Error::EINVAL);
        }
    }
    let issue = |owned: &mut (Matrix<f32>, Option<Rc<Matrix<f32>>>)| {
        let x = &owned.0;
        let (at_y, ldy) = match &owned.1 {
            Some(y) => (y.offset(), if y.rows == 1 { 0 } else { y.cols }),
            None => (0, 0),
        };
        let rows = abi::Rows {
            kind,
            x: x.offset(),
            y: at_y,
            out: x.offset(),
            rows: x.rows,
            cols: x.cols,
            ldx: x.cols,
            ldy,
            ldout: x.cols,
            eps,
        };
        // SAFETY: the struct is read at the call; the matrices it names are on the heap and the operation's.
        unsafe { abi::rows(&rows, abi::size_of::<abi::Rows>()) }
    };
    let (status, (x, _)) = Waiting::new((x, y.map(Rc::clone)), issue).await?;
    Error::check(status).map(|_| x)
}

/// x + y. A `y` of one row is added to every row.
pub async fn add(x: Matrix<f32>, y: &Rc<Matrix<f32>>) -> Result<Matrix<f32>, Error> {
    rows(abi::ROWS_ADD, x, Some(y), 0.0).await
}

/// x y, element by element. A `y` of one row is multiplied with every row.
pub async fn multiply(x: Matrix<f32>, y: &Rc<Matrix<f32>>) -> Result<Matrix<f32>, Error> {
    rows(abi::ROWS_MULTIPLY, x, Some(y), 0.0).await
}

/// silu(x) = x / (1 + exp(-x)).
pub async fn silu(x: Matrix<f32>) -> Result<Matrix<f32>, Error> {
    rows(abi::ROWS_SILU, x, None, 0.0).await
}

/// silu(x) y, element by element.
pub async fn silu_multiply(x: Matrix<f32>, y: &Rc<Matrix<f32>>) -> Result<Matrix<f32>, Error> {
    rows(abi::ROWS_SILU_MULTIPLY, x, Some(y), 0.0).await
}

/// The softmax of each row.
pub async fn softmax(x: Matrix<f32>) -> Result<Matrix<f32>, Error> {
    rows(abi::ROWS_SOFTMAX, x, None, 0.0).await
}

/// The RMSNorm of each row, times `weight` (one row).
pub async fn rms_norm(x: Matrix<f32>, weight: &Rc<Matrix<f32>>, eps: f32) -> Result<Matrix<f32>, Error> {
    rows(abi::ROWS_RMS_NORM, x, Some(weight), eps).await
}
