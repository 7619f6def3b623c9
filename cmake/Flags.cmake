# Compiler flags as one interface target; no global CMAKE_CXX_FLAGS.
add_library(vi_flags INTERFACE)
target_include_directories(vi_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(vi_flags INTERFACE FMT_HEADER_ONLY)
target_compile_options(vi_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow=local -Wno-unknown-pragmas>
  # Floating point is exact in meaning: no contraction that depends on the compiler's mood.
  $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off -fno-math-errno>)
if(VI_WERROR)
  target_compile_options(vi_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(VI_SANITIZE)
  target_compile_options(vi_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${VI_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all>)
  target_link_options(vi_flags INTERFACE -fsanitize=${VI_SANITIZE})
endif()
