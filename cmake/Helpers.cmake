# vi_library(NAME SOURCES a.cpp ... DEPS vi_x ...): one static library, alias vi::NAME without the vi_.
function(vi_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC vi_flags ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
endfunction()

# vi_test(core/quant/foo_test LABELS cpu DEPS vi_quant): tests/<path>.cpp as one GoogleTest program and
# one ctest entry. Tests run in their own scratch folder.
function(vi_test path)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LABELS;DEPS" ${ARGN})
  string(REPLACE "/" "." name ${path})
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/${path}.cpp)
  target_link_libraries(${name} PRIVATE vi_flags ${ARG_DEPS} GTest::gtest_main GTest::gmock)
  target_compile_definitions(${name} PRIVATE
    VI_TESTS_DIR="${PROJECT_SOURCE_DIR}/tests" VI_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_test(NAME ${name} COMMAND ${name})
  if(NOT ARG_LABELS)
    set(ARG_LABELS cpu)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  # Threads that wait asleep: beside another busy process spinning ones make a test of 5 s take two minutes.
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "OMP_WAIT_POLICY=passive"
    SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\].*0 tests ran")
endfunction()

# vi_fuzzer(gguf DEPS vi_weights): tests/fuzz/<name>_fuzz.cpp with libFuzzer, only under VI_FUZZ (clang).
function(vi_fuzzer name)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  if(VI_FUZZ)
    add_executable(fuzz_${name} ${PROJECT_SOURCE_DIR}/tests/fuzz/${name}_fuzz.cpp)
    target_link_libraries(fuzz_${name} PRIVATE vi_flags ${ARG_DEPS})
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
