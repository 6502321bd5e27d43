# DRIFTWOOD_CUDA=AUTO|ON|OFF: src/compute/cuda is built where nvcc is found: $CUDA_HOME, PATH, /usr/local/cuda, or the
# tool chain from PyPI that scripts/setup.sh puts into the cache. driftwood_cuda_objects(TARGET a.cu ...) compiles with
# it. The runtime is linked in statically and looks for the driver at run time, so programs start without one.

set(DRIFTWOOD_CUDA AUTO CACHE STRING "Build the CUDA engine: AUTO (where nvcc is found), ON, OFF")
set(driftwood_cuda_cache $ENV{DRIFTWOOD_CACHE})
if(NOT driftwood_cuda_cache)
  set(driftwood_cuda_cache $ENV{XDG_CACHE_HOME})
  if(NOT driftwood_cuda_cache)
    set(driftwood_cuda_cache $ENV{HOME}/.cache)
  endif()
  string(APPEND driftwood_cuda_cache /driftwood)
endif()

set(DRIFTWOOD_HAS_CUDA OFF)
# Not under sanitizers, which the driver does not survive, and not for another machine than this one.
if(DRIFTWOOD_CUDA AND NOT DRIFTWOOD_SANITIZE AND NOT DRIFTWOOD_FUZZ AND NOT CMAKE_CROSSCOMPILING)
  find_program(DRIFTWOOD_NVCC nvcc
    HINTS $ENV{CUDA_HOME}/bin PATHS /usr/local/cuda/bin ${driftwood_cuda_cache}/cuda-13.0/nvidia/cu13/bin)
  if(DRIFTWOOD_NVCC)
    get_filename_component(driftwood_cuda_root ${DRIFTWOOD_NVCC} REALPATH)
    get_filename_component(driftwood_cuda_root ${driftwood_cuda_root}/../.. ABSOLUTE)
    find_library(DRIFTWOOD_CUDART cudart_static PATHS ${driftwood_cuda_root} PATH_SUFFIXES lib lib64 NO_DEFAULT_PATH)
    find_path(DRIFTWOOD_CUDA_INCLUDE cuda_runtime_api.h PATHS ${driftwood_cuda_root}/include NO_DEFAULT_PATH)
  endif()
  set(driftwood_cuda_version 0)
  if(DRIFTWOOD_CUDA_INCLUDE)
    file(STRINGS ${DRIFTWOOD_CUDA_INCLUDE}/cuda_runtime_api.h driftwood_cuda_version REGEX "^#define CUDART_VERSION ")
    string(REGEX REPLACE "[^0-9]" "" driftwood_cuda_version "${driftwood_cuda_version}")
  endif()
  if(DRIFTWOOD_NVCC AND DRIFTWOOD_CUDART AND driftwood_cuda_version GREATER_EQUAL 13000)
    set(DRIFTWOOD_HAS_CUDA ON)
    message(STATUS "cuda: ${DRIFTWOOD_NVCC}")
  elseif(NOT DRIFTWOOD_CUDA STREQUAL AUTO)
    message(FATAL_ERROR "DRIFTWOOD_CUDA=${DRIFTWOOD_CUDA}, but no CUDA 13 tool chain was found: put nvcc on PATH, set "
                        "CUDA_HOME, or run DRIFTWOOD_CUDA=ON scripts/setup.sh, which fetches one from PyPI")
  endif()
endif()

# Machine code for the cards of the H100's generation and of the A100's, and what drivers compile for all later ones.
set(driftwood_cuda_flags -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr -I${CMAKE_SOURCE_DIR}/src
  -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_80,code=[sm_80,compute_80]
  -Xcompiler=-Wall,-Wextra,-Werror,-ffp-contract=off,-ffile-prefix-map=${CMAKE_SOURCE_DIR}=. -Werror=all-warnings)

function(driftwood_cuda_objects target)
  foreach(source ${ARGN})
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${source}.o)
    get_filename_component(folder ${object} DIRECTORY)
    file(MAKE_DIRECTORY ${folder})
    add_custom_command(OUTPUT ${object}
      COMMAND ${DRIFTWOOD_NVCC} ${driftwood_cuda_flags} -MD -MF ${object}.d -c ${CMAKE_CURRENT_SOURCE_DIR}/${source}
              -o ${object}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} DEPFILE ${object}.d COMMENT "nvcc ${source}" VERBATIM)
    target_sources(${target} PRIVATE ${object})
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  endforeach()
  target_include_directories(${target} SYSTEM PRIVATE ${DRIFTWOOD_CUDA_INCLUDE})
  target_link_libraries(${target} PUBLIC ${DRIFTWOOD_CUDART} ${CMAKE_DL_LIBS} rt)
endfunction()
