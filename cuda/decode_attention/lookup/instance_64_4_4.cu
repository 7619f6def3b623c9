// The look-up kernel for head_dim 64, keys d4b8, values d4b8.
#include "cuda/decode_attention/lookup/launch.cuh"

template void vi::cuda::lookup::launch_row<64, 4, 4>(const WalkArgs&, int, cudaStream_t);
