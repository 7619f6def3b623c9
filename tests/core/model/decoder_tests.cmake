vi_test(core/model/decoder_kernels_test DEPS vi_model_kernels OpenMP::OpenMP_CXX)
vi_test(core/model/decoder_test DEPS vi_model vi_model_kernels)
vi_test(core/model/sampler_test DEPS vi_model_kernels)
