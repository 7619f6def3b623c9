# Tests of vi_model_text, and its fuzzers (under VI_FUZZ).
foreach(name weights model_config tokenizer unicode jinja load)
  vi_test(core/model/${name}_test DEPS vi_model_text)
endforeach()
vi_test(fuzz/text_corpus_test DEPS vi_model_text)
foreach(target gguf safetensors tokenizer_json config_json jinja)
  vi_fuzzer(${target} DEPS vi_model_text)
endforeach()
