# driftwood::deps: the umbrella Rust archive of deps/ with its headers (driftwood_deps.h, wasmtime.h).
# deps/build.sh builds it into a cache outside the checkout; where it is there already this takes a moment.

find_package(Threads REQUIRED)

message(STATUS "deps: building the Rust archive, or finding it in the cache")
execute_process(
  COMMAND ${CMAKE_SOURCE_DIR}/deps/build.sh
  OUTPUT_VARIABLE driftwood_deps_output
  OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE driftwood_deps_status)
if(NOT driftwood_deps_status EQUAL 0)
  message(FATAL_ERROR "deps/build.sh failed (${driftwood_deps_status}): see its message above")
endif()
string(REGEX REPLACE ".*\n" "" driftwood_deps_prefix "${driftwood_deps_output}")
message(STATUS "deps: ${driftwood_deps_prefix}")

# A change of the shim changes the prefix, so it must configure again.
file(GLOB_RECURSE driftwood_deps_inputs CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/deps/src/*
     ${CMAKE_SOURCE_DIR}/deps/include/*)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${driftwood_deps_inputs}
             ${CMAKE_SOURCE_DIR}/deps/Cargo.toml ${CMAKE_SOURCE_DIR}/deps/Cargo.lock
             ${CMAKE_SOURCE_DIR}/deps/build.rs ${CMAKE_SOURCE_DIR}/deps/build.sh)

add_library(driftwood_deps_archive STATIC IMPORTED GLOBAL)
set_target_properties(driftwood_deps_archive PROPERTIES
  IMPORTED_LOCATION ${driftwood_deps_prefix}/lib/libdriftwood_deps.a)
add_library(driftwood_deps INTERFACE)
target_include_directories(driftwood_deps SYSTEM INTERFACE ${driftwood_deps_prefix}/include)
target_link_libraries(driftwood_deps INTERFACE driftwood_deps_archive Threads::Threads ${CMAKE_DL_LIBS} m)
if(APPLE)
  target_link_libraries(driftwood_deps INTERFACE "-framework CoreFoundation")
endif()
add_library(driftwood::deps ALIAS driftwood_deps)
