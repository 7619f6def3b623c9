// Instances of the gather kernel: lines of rows.inc.
#include "cuda/decode_attention/gather/launch.cuh"

VI_GATHER_INSTANCE(128, 2, 8, 32, true, 2, 8, 32, true, 1)
VI_GATHER_INSTANCE(128, 2, 8, 2, false, 2, 8, 1, false, 1)
