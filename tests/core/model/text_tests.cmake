# Tests of vi_model_text, and its fuzzers (under VI_FUZZ).
foreach(name weights model_config tokenizer unicode load)
  vi_test(core/model/${name}_test DEPS vi_model_text)
endforeach()
foreach(target gguf safetensors tokenizer_json config_json jinja)
  vi_fuzzer(${target} DEPS vi_model_text)
endforeach()
