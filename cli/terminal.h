// What the other end of stdout and stderr can show.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace sheaf::cli {

// Columns of the terminal at `fd`, or 0 if there is none.
size_t TerminalWidth(int fd);
// False for pipes and files, with NO_COLOR set (no-color.org), or TERM=dumb.
bool WantsColor(int fd);

// The text with control characters and bytes that are no UTF-8 written as \xNN: names and data of others must not steer
// the terminal. Line ends stay.
std::string Printable(const std::string& text);

// Columns aligned by their widest cell; the first row is the heading. Numbers (cells starting with a digit) go right.
std::string AlignedTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace sheaf::cli
