vi_library(vi_model_text
  SOURCES
    weights.cpp dequant.cpp gguf.cpp gguf_reader.cpp safetensors.cpp
    model_config.cpp architectures.cpp config_json.cpp
    utf8.cpp strict_json.cpp unicode.cpp
    tokenizer.cpp tokenizer_gguf.cpp tokenizer_json.cpp stream_encoder.cpp
    bpe.cpp pre_tokenizer.cpp added_tokens.cpp
    jinja_lexer.cpp jinja_parser.cpp jinja_value.cpp jinja_eval.cpp jinja_builtins.cpp jinja_methods.cpp
    jinja_text.cpp chat_template.cpp load.cpp
  DEPS vi_common
  PRIVATE_DEPS ${PCRE2_LIBRARY})
target_include_directories(vi_model_text SYSTEM PRIVATE ${PCRE2_INCLUDE})
