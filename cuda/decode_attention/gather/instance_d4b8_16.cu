// Instances of the gather kernel: lines of rows.inc.
#include "cuda/decode_attention/gather/launch.cuh"

VI_GATHER_INSTANCE(128, 4, 8, 16, true, 4, 8, 16, true, 2)
VI_GATHER_INSTANCE(128, 4, 8, 2, false, 4, 8, 1, false, 2)
