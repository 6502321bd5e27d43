/* The C interface of deps/: Rust libraries behind plain functions. Wasmtime has its own header beside this one.
 *
 * Errors.    A function that can fail returns a dwd_status; 0 is success. On any other value no output is valid and
 *            `error`, where it is a parameter and not NULL, holds a message (UTF-8, no terminating zero) to be freed by
 *            the caller. A Rust panic is caught and returned as DWD_PANIC.
 * Ownership. Input spans are borrowed for the length of the call; NULL is allowed where the length is 0. A dwd_buf
 *            output is written without looking at what it held, belongs to the caller, and is freed with dwd_buf_free.
 *            A handle belongs to the caller and is freed once with its own _free, which accepts NULL.
 * Threads.   No function keeps global state that a caller could see. A const handle may be used by any number of
 *            threads at once, another by one at a time; _free by the last user.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dwd_status {
    DWD_OK = 0,
    DWD_INVALID = 1, /* the input is malformed, or an argument is NULL that must not be */
    DWD_REFUSED = 2, /* the input is well formed, but asks for what we do not do; the message names it */
    DWD_PANIC = 3,   /* a bug in a library, caught; the message says where */
} dwd_status;

/* Bytes owned by whoever holds the struct. Do not change the fields; move it by copying and forgetting the source. */
typedef struct dwd_buf {
    uint8_t* data;
    size_t len;
    size_t cap;
} dwd_buf;

/* Frees and empties. NULL and an empty (zeroed) buffer are fine. */
void dwd_buf_free(dwd_buf* buf);

/* Token ids owned by whoever holds the struct, as for dwd_buf. */
typedef struct dwd_ids {
    uint32_t* data;
    size_t len;
    size_t cap;
} dwd_ids;

void dwd_ids_free(dwd_ids* ids);

/* Panics with the message, for the test that a panic comes back as DWD_PANIC. */
int32_t dwd_test_panic(const uint8_t* message, size_t len, dwd_buf* error);

/* ---- BLAKE3 (https://github.com/BLAKE3-team/BLAKE3): 32-byte digests, unkeyed. These fail only on a NULL. ---- */

typedef struct dwd_blake3_hasher dwd_blake3_hasher;

int32_t dwd_blake3(const uint8_t* data, size_t len, uint8_t out[32]);
int32_t dwd_blake3_new(dwd_blake3_hasher** out, dwd_buf* error);
int32_t dwd_blake3_update(dwd_blake3_hasher* hasher, const uint8_t* data, size_t len);
/* The digest of all bytes so far; the hasher may be updated further. */
int32_t dwd_blake3_finish(const dwd_blake3_hasher* hasher, uint8_t out[32]);
void dwd_blake3_free(dwd_blake3_hasher* hasher);

/* ---- Tokenizers: a Hugging Face tokenizer.json ----
 * Truncation and padding settings in the file are ignored. Every id is below dwd_tokenizer_vocab_size. */

typedef struct dwd_tokenizer dwd_tokenizer;

/* Flags of encode. */
enum {
    /* Add what the file's post-processor adds around a text, such as a beginning-of-sequence token. */
    DWD_ENCODE_ADD_SPECIAL = 1,
    /* Read special tokens spelled in the text as those tokens: for the output of a chat template. Without it no text
     * becomes a special token, whatever it spells: for text from users. Added tokens that the file does not mark
     * special are ordinary text and match either way. */
    DWD_ENCODE_PARSE_SPECIAL = 2,
};
/* Flags of decode. */
enum { DWD_DECODE_SKIP_SPECIAL = 1 };

/* DWD_INVALID: no tokenizer.json, or added tokens whose ids do not follow from the file. DWD_REFUSED: a decoder that
 * does not work token by token (supported: ByteLevel, ByteFallback, Metaspace, Replace, Strip, Fuse, and sequences of
 * them). Takes tens of milliseconds to a second, depending on the vocabulary. */
int32_t dwd_tokenizer_new(const uint8_t* file, size_t len, dwd_tokenizer** out, dwd_buf* error);
void dwd_tokenizer_free(dwd_tokenizer* tokenizer);
/* DWD_INVALID if the text is not UTF-8; DWD_REFUSED, without PARSE_SPECIAL, if the vocabulary can express the text only
 * by a special token. */
int32_t dwd_tokenizer_encode(const dwd_tokenizer* tokenizer, const uint8_t* text, size_t len, uint32_t flags,
                             dwd_ids* ids, dwd_buf* error);
/* The bytes of a whole sequence from its beginning, as they are: not necessarily UTF-8. */
int32_t dwd_tokenizer_decode(const dwd_tokenizer* tokenizer, const uint32_t* ids, size_t count, uint32_t flags,
                             dwd_buf* bytes, dwd_buf* error);
/* The raw bytes of one token, for streaming; a token may end inside a character. Borrowed: valid as long as the
 * tokenizer. A sequence is the concatenation of its tokens' bytes, less one leading space where info says
 * strips_leading_space. */
int32_t dwd_tokenizer_token_bytes(const dwd_tokenizer* tokenizer, uint32_t id, const uint8_t** data, size_t* len,
                                  dwd_buf* error);
/* The id of a token as the file spells it, special ones too; -1 if there is none. */
int32_t dwd_tokenizer_token_id(const dwd_tokenizer* tokenizer, const uint8_t* token, size_t len, int64_t* id,
                               dwd_buf* error);
/* The greatest id and one. */
int32_t dwd_tokenizer_vocab_size(const dwd_tokenizer* tokenizer, uint32_t* size, dwd_buf* error);
/* JSON: {"vocab_size", "unused_ids", "decoder", "strips_leading_space", "unknown": id or null,
 *        "special": [{"id", "content"}, ...] in order of ids}. */
int32_t dwd_tokenizer_info(const dwd_tokenizer* tokenizer, dwd_buf* json, dwd_buf* error);

/* ---- Grammars (llguidance) ---- */

typedef enum dwd_grammar_kind {
    DWD_GRAMMAR_JSON_SCHEMA = 0,
    DWD_GRAMMAR_LARK = 1,
    DWD_GRAMMAR_REGEX = 2
} dwd_grammar_kind;

/* Whether the grammar compiles, within the library's limits, against the tokenizer's vocabulary. The first call on a
 * tokenizer builds a trie of its vocabulary. Constrained sampling itself is not here. */
int32_t dwd_grammar_validate(const dwd_tokenizer* tokenizer, uint32_t kind, const uint8_t* grammar, size_t len,
                             dwd_buf* error);

/* ---- Chat templates (minijinja, set up as Hugging Face's apply_chat_template sets up Jinja) ----
 * Python's string, list and dict methods work, loops know break and continue, `tojson` writes what json.dumps writes,
 * `raise_exception` fails with DWD_REFUSED, `strftime_now` formats now_s in UTC. `context` is a JSON object: messages,
 * add_generation_prompt, bos_token, eos_token and whatever else the template reads; what is absent is undefined.
 * `fuel` bounds the instructions executed (a usual prompt takes some hundreds per message), not the memory they use.
 * Errors name the line: `[template.render] undefined value (in chat template:3)`. */
int32_t dwd_template_render(const uint8_t* template_text, size_t template_len, const uint8_t* context,
                            size_t context_len, int64_t now_s, uint64_t fuel, dwd_buf* text, dwd_buf* error);

/* ---- Guest modules: inspection and rewriting (wasmparser, wasm-encoder) ----
 * A guest may use WebAssembly 2.0 without externref, plus tail calls and extended constant expressions. An engine that
 * runs rewritten modules has threads, gc, function references, exceptions, memory64, multi-memory, relaxed SIMD, stack
 * switching, wide arithmetic and custom page sizes switched off. */

/* DWD_INVALID if the bytes are no valid core module. Otherwise a report as JSON, refused or not:
 * {"imports":  [{"module", "name", "kind": "func|table|memory|global|tag", "type"}],
 *  "exports":  [{"name", "kind", "index", "type"}],          a func's type: "(i32, i64) -> (i32)"
 *  "memories": [{"min", "max": n or null, "memory64", "shared", "imported"}],    in pages of 64 KiB
 *  "tables":   [{"element", "min", "max", "imported"}],
 *  "globals":  [{"type", "mutable", "imported"}],
 *  "data_segments": {"active", "passive"}, "element_segments": {"active", "passive", "declared"},
 *  "start": function index or null,
 *  "uses": {"table.set": count, ...}        of table.set|grow|fill|copy|init, elem.drop, memory.init, data.drop
 *  "features": ["SIMD", ...]                proposals it does not do without; not determined when it is refused
 *  "custom_sections": [{"name", "bytes"}],  the first hundred
 *  "functions": count with imports, "code_bytes",
 *  "mutates_tables": bool,
 *  "refusals": [{"feature", "why"}]}                         empty: the module can be frozen */
int32_t dwd_wasm_inspect(const uint8_t* module, size_t len, dwd_buf* report, dwd_buf* error);

/* The module, made ready to be born, frozen and thawed; a pure function of its bytes. DWD_REFUSED, with every refusal
 * in the message, if it cannot be frozen.
 *  - The start function is not run at instantiation but exported as `__dw_start`.
 *  - Active data segments are emptied (indices stay valid); their bytes, one after the other, are `birth`.
 *  - `__dw_memory_0`, `__dw_table_<i>` (all), `__dw_global_<i>` (mutable ones) are exported, and if the module changes
 *    its tables `__dw_func_<i>` for every function whose reference can come to lie in one. Indices are the module's.
 *  - Elements stay active: instantiation fills the tables. Code and custom sections are copied as they are.
 * `facts` is JSON:
 * {"has_start", "memory": {"min_pages", "max_pages": n or null, "export"},
 *  "globals":   [{"index", "type": "i32|i64|f32|f64|v128", "export"}],
 *  "tables":    [{"index", "element", "min", "max", "export"}], "mutates_tables",
 *  "functions": [{"index", "export"}],
 *  "birth":     [{"offset", "len"}],     pieces of `birth` in the order in which to write them, all inside min_pages
 *  "module":    {...}}                   what dwd_wasm_inspect reports for the original */
int32_t dwd_wasm_rewrite(const uint8_t* module, size_t len, dwd_buf* rewritten, dwd_buf* birth, dwd_buf* facts,
                         dwd_buf* error);

/* Places in a module's code and what its name section and DWARF say about them. `offset` counts from the beginning of
 * the function's body, as wasm_frame_func_offset does. */
typedef struct dwd_code_place {
    uint32_t function; /* its index; imports count first */
    uint32_t offset;
} dwd_code_place;

/* JSON: for each place a list, innermost first, of the function and those that it was inlined into:
 * [[{"function": demangled, or null, "file": or null, "line": 0 if unknown, "column": 0 if unknown}, ...], ...]
 * Never empty. Names are cut after some hundred bytes, inlined functions after eight. What is malformed or too large to
 * be read in a moment is as good as absent. DWARF is looked at once per call: hand over all places of a trap. */
int32_t dwd_wasm_source(const uint8_t* module, size_t len, const dwd_code_place* places, size_t count, dwd_buf* report,
                        dwd_buf* error);

/* ---- Tables of a Wasmtime store (the functions of wasmtime.h for this abort: they need a garbage collector) ----
 * `table` belongs to `store`, `function` is one of wasmtime_func_to_raw's of that store, or NULL for a null reference.
 * DWD_INVALID: beyond the table's end or limits, or a function that its type does not allow; nothing has changed. */

struct wasmtime_context;
struct wasmtime_table;

int32_t dwd_table_get(struct wasmtime_context* store, const struct wasmtime_table* table, uint64_t index,
                      void** function, dwd_buf* error);
int32_t dwd_table_set(struct wasmtime_context* store, const struct wasmtime_table* table, uint64_t index,
                      void* function, dwd_buf* error);
/* `delta` more elements, all null. */
int32_t dwd_table_grow(struct wasmtime_context* store, const struct wasmtime_table* table, uint64_t delta,
                       dwd_buf* error);

#ifdef __cplusplus
}
#endif
