# What every target of this project is built with, and how a folder of src/ says what it is.

find_program(DRIFTWOOD_CCACHE ccache)
if(DRIFTWOOD_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_C_COMPILER_LAUNCHER ${DRIFTWOOD_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${DRIFTWOOD_CCACHE})
endif()

add_library(driftwood_flags INTERFACE)
target_compile_features(driftwood_flags INTERFACE cxx_std_20)
# The numerics contract allows an fma only where it is written: the compiler contracts nothing, reassociates nothing.
target_compile_options(driftwood_flags INTERFACE -Wall -Wextra -Werror -ffp-contract=off -fno-fast-math)
target_include_directories(driftwood_flags INTERFACE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR}/include)
# Neither messages nor debug information carry the path of the checkout, and a compiler cache hits across checkouts.
target_compile_options(driftwood_flags INTERFACE -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)

option(DRIFTWOOD_SANITIZE "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
if(DRIFTWOOD_SANITIZE)
  target_compile_options(driftwood_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined
                                                   -fno-omit-frame-pointer)
  target_link_options(driftwood_flags INTERFACE -fsanitize=address,undefined)
  # Every sanitised program has the options of tests/asan_options.cc built in, so it runs right outside of ctest too.
  target_sources(driftwood_flags INTERFACE
    $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${CMAKE_SOURCE_DIR}/tests/asan_options.cc>)
endif()

option(DRIFTWOOD_FUZZ "Build the libFuzzer programs, and everything for them (clang)" OFF)
if(DRIFTWOOD_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "libFuzzer comes with clang: cmake --preset fuzz")
  endif()
  set(fuzz_sanitizers address,undefined)
  target_compile_options(driftwood_flags INTERFACE -fsanitize=fuzzer-no-link,${fuzz_sanitizers}
    -fno-sanitize-recover=undefined -fno-omit-frame-pointer -Wno-unknown-warning-option)
  target_link_options(driftwood_flags INTERFACE -fsanitize=${fuzz_sanitizers})
  add_custom_target(fuzz)
endif()

# driftwood_library(base result.cc ... DEPS memory ...): the static library of one folder of src/.
function(driftwood_library name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_library(driftwood_${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(driftwood_${name} PUBLIC driftwood_flags)
  foreach(dep ${ARG_DEPS})
    if(TARGET driftwood_${dep})
      target_link_libraries(driftwood_${name} PUBLIC driftwood_${dep})
    else()
      target_link_libraries(driftwood_${name} PUBLIC ${dep})
    endif()
  endforeach()
endfunction()

# driftwood_test(memory region_test.cc ... DEPS file): one GoogleTest program per folder, each test listed in ctest.
function(driftwood_test name)
  if(NOT DRIFTWOOD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  add_executable(${name}_test ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name}_test PRIVATE driftwood_flags GTest::gtest GTest::gtest_main)
  foreach(dep ${name} ${ARG_DEPS})
    if(TARGET driftwood_${dep})
      target_link_libraries(${name}_test PRIVATE driftwood_${dep})
    elseif(NOT dep STREQUAL name)
      target_link_libraries(${name}_test PRIVATE ${dep})
    endif()
  endforeach()
  include(GoogleTest)
  gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 300)
endfunction()

# driftwood_fuzz(module module_fuzz.cc DEPS wasm): a libFuzzer program fuzz_module, whose corpus lies in the folder
# module_fuzz beside its source. ctest runs it for a few seconds from there; `make fuzz` for as long as one likes.
function(driftwood_fuzz name source)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  list(TRANSFORM ARG_DEPS PREPEND driftwood_)
  if(NOT DRIFTWOOD_FUZZ)  # only so that `make lint` sees the source
    add_library(fuzz_${name} OBJECT EXCLUDE_FROM_ALL ${source})
    target_link_libraries(fuzz_${name} PRIVATE driftwood_flags ${ARG_DEPS})
    return()
  endif()
  add_executable(fuzz_${name} EXCLUDE_FROM_ALL ${source} ${CMAKE_SOURCE_DIR}/tests/asan_options.cc)
  target_link_libraries(fuzz_${name} PRIVATE driftwood_flags ${ARG_DEPS})
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  add_dependencies(fuzz fuzz_${name})
  cmake_path(GET source STEM corpus)
  # libFuzzer keeps what it finds in the first folder: an empty one each time, so that every run is the same.
  set(fresh ${CMAKE_CURRENT_BINARY_DIR}/${corpus}_fresh)
  add_test(NAME fuzz.${name}
           COMMAND sh -c "rm -rf ${fresh} && mkdir -p ${fresh} && exec $<TARGET_FILE:fuzz_${name}> -seed=1 \
-max_total_time=5 -timeout=20 -verbosity=1 ${fresh} ${CMAKE_CURRENT_SOURCE_DIR}/${corpus}")
  set_tests_properties(fuzz.${name} PROPERTIES TIMEOUT 120)
endfunction()

# driftwood_embed(guests SYMBOLS chat_wasm path/chat.wasm ...): a library driftwood_embedded_guests with the files'
# bytes and a header embedded_guests.h that declares `std::span<const uint8_t> driftwood::embedded::chat_wasm()`.
function(driftwood_embed name)
  cmake_parse_arguments(ARG "" "" "SYMBOLS" ${ARGN})
  set(asm ".section .rodata\n")
  set(header "#pragma once\n#include <cstdint>\n#include <span>\n\nnamespace driftwood::embedded {\n")
  set(externs "// NOLINTBEGIN(readability-identifier-naming): symbols of the assembler\n")
  set(files "")
  while(ARG_SYMBOLS)
    list(POP_FRONT ARG_SYMBOLS symbol file)
    string(APPEND asm ".balign 65536\n.global dw_${symbol}\n.global dw_${symbol}_end\ndw_${symbol}:\n"
                      ".incbin \"${file}\"\ndw_${symbol}_end:\n.byte 0\n")
    string(APPEND externs "extern \"C\" const uint8_t dw_${symbol}[];\n"
                          "extern \"C\" const uint8_t dw_${symbol}_end[];\n")
    string(APPEND header "inline std::span<const uint8_t> ${symbol}() { return {dw_${symbol}, dw_${symbol}_end}; }\n")
    list(APPEND files ${file})
  endwhile()
  string(APPEND asm ".section .note.GNU-stack,\"\",%progbits\n")
  string(APPEND externs "// NOLINTEND(readability-identifier-naming)\n\n")
  string(REPLACE "namespace driftwood" "${externs}namespace driftwood" header "${header}")
  string(APPEND header "}  // namespace driftwood::embedded\n")
  set(dir ${CMAKE_CURRENT_BINARY_DIR}/embedded_${name})
  file(CONFIGURE OUTPUT ${dir}/embedded_${name}.S CONTENT "${asm}" @ONLY)
  file(CONFIGURE OUTPUT ${dir}/embedded_${name}.h CONTENT "${header}" @ONLY)
  add_library(driftwood_embedded_${name} STATIC ${dir}/embedded_${name}.S)
  set_source_files_properties(${dir}/embedded_${name}.S PROPERTIES OBJECT_DEPENDS "${files}")
  target_include_directories(driftwood_embedded_${name} PUBLIC ${dir})
endfunction()
