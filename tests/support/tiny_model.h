// A random Llama of two layers as a Hugging Face folder, and English-like text, made in milliseconds: the
// whole pipeline runs on them without the embedded model.
#pragma once

#include <cstdint>
#include <filesystem>

namespace vi::test {

// hidden 64, 2 layers, 4 query and 2 KV heads, head_dim 32, byte-level vocabulary.
void write_tiny_model(const std::filesystem::path& folder, std::uint64_t seed = 1);

void write_text(const std::filesystem::path& file, std::size_t words, std::uint64_t seed);

}  // namespace vi::test
