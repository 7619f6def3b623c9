# codec_io: transform.h5 and codebook.h5. Beside vi_codec, so that readers of files need no k-means.
if(NOT TARGET vi_codec_io)
  vi_library(vi_codec_io
    SOURCES ${PROJECT_SOURCE_DIR}/core/codec/codec_io.cpp
    DEPS vi_artifact vi_config)
endif()
