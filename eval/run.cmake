# The half of eval/ that runs a model: evaluation modes, perplexity, generation.
vi_library(vi_eval_run
  SOURCES
    calibration/attention_statistics.cpp calibration/kv_gradients.cpp calibration/layer_sensitivity.cpp calibration/logit_loss.cpp calibration/tune_codebooks.cpp
    generation/batch_model.cpp generation/generate.cpp generation/generate_batch.cpp generation/largest_logits.cpp generation/reconstructing.cpp generation/step_model.cpp
    modes/device_codec.cpp modes/device_modes.cpp modes/layer_errors.cpp modes/modes.cpp modes/perplexity.cpp
    gpu_backend.cpp
  DEPS vi_decoder vi_cache vi_codec
  PRIVATE_DEPS OpenMP::OpenMP_CXX ${CMAKE_DL_LIBS})
