// The look-up kernel for head_dim 128, keys d8b8, values d4b8.
#include "cuda/decode_attention/lookup/launch.cuh"

template void vi::cuda::lookup::launch_row<128, 8, 4>(const WalkArgs&, int, cudaStream_t);
