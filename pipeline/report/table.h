// A table of texts, printed for a terminal or as HTML. The first column is left-aligned, the others right.
#pragma once

#include <string>
#include <vector>

namespace vi::report {

struct Table {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
  std::string text() const;
  std::string html() const;
};

std::string html_escape(const std::string& text);

}  // namespace vi::report
