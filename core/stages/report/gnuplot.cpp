#include "core/stages/report/gnuplot.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <regex>

extern char** environ;

namespace infalign::stages {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

/// A file without a name, gone when closed. Files rather than pipes: nobody has to write and read at once.
File anonymous_file() { return {std::tmpfile(), &std::fclose}; }

std::string content(std::FILE* file) {
  std::string text;
  std::rewind(file);
  std::array<char, 1 << 16> buffer;
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), file))
    text.append(buffer.data(), got);
  return text;
}

std::string first_line(const std::string& text) {
  const auto begin = text.find_first_not_of(" \t\r\n^");
  return begin == std::string::npos ? "" : text.substr(begin, text.find('\n', begin) - begin);
}

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

constexpr const char* kInkVariables[] = {"--ink", "--muted", "--grid", "--surface", "--neutral"};

/// From gnuplot's file to an element of the page: no prologue, own element names, colours and font of the
/// page.
std::string adopt(std::string svg, const std::string& id) {
  svg.erase(0, svg.find("<svg"));
  svg = std::regex_replace(svg, std::regex("<title>[^<]*</title>|<desc>[^<]*</desc>"), "");
  for (const char* name : {"gpPt", "gpDot", "textbox", "greybox", "gnuplot_"}) {
    replace_all(svg, fmt::format("id='{}", name), fmt::format("id='{}_{}", id, name));
    replace_all(svg, fmt::format("id=\"{}", name), fmt::format("id=\"{}_{}", id, name));
    replace_all(svg, fmt::format("'#{}", name), fmt::format("'#{}_{}", id, name));
    replace_all(svg, fmt::format("url(#{}", name), fmt::format("url(#{}_{}", id, name));
  }
  for (std::size_t ink = 0; ink < std::size(kInkVariables); ++ink) {
    svg = std::regex_replace(svg, std::regex(fmt::format("rgb\\( *1, *1, *{}\\)", ink)),
                             fmt::format("var({})", kInkVariables[ink]));
  }
  for (std::size_t series = 0; series < kSeriesColours; ++series) {
    svg = std::regex_replace(svg, std::regex(fmt::format("rgb\\( *1, *2, *{}\\)", series)),
                             fmt::format("var({})", series_variable(series)));
  }
  replace_all(svg, "font-family=\"sans-serif\"", "font-family=\"inherit\"");
  return svg;
}

}  // namespace

std::string gnuplot_colour(Ink ink, std::size_t series, double opacity) {
  const int alpha = static_cast<int>((1 - opacity) * 255);
  const bool is_series = ink == Ink::kSeries;
  const std::size_t index = is_series ? series % kSeriesColours : static_cast<std::size_t>(ink);
  return fmt::format("rgb '#{:02X}01{:02X}{:02X}'", alpha, is_series ? 2 : 1, index);
}

std::string series_variable(std::size_t series) {
  return fmt::format("--series-{}", series % kSeriesColours);
}

std::string gnuplot_quote(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += '\'';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + "'";
}

Drawing draw(const std::string& program, const std::string& script, const std::string& id) {
  const File input = anonymous_file(), output = anonymous_file(), errors = anonymous_file();
  if (!input || !output || !errors) return {"", std::string("no temporary file: ") + std::strerror(errno)};
  if (std::fwrite(script.data(), 1, script.size(), input.get()) != script.size() ||
      std::fflush(input.get())) {
    return {"", std::string("no temporary file: ") + std::strerror(errno)};
  }
  std::rewind(input.get());

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(input.get()), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(output.get()), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(errors.get()), STDERR_FILENO);
  std::string name = program, defaults = "-d", standard_input = "-";  // -d: not the user's own settings
  char* arguments[] = {name.data(), defaults.data(), standard_input.data(), nullptr};
  pid_t child = 0;
  const int failure = posix_spawnp(&child, program.c_str(), &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure) return {"", fmt::format("{} could not be started ({})", program, std::strerror(failure))};

  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  std::string svg = content(output.get());
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || svg.find("</svg>") == std::string::npos) {
    return {"", fmt::format("{} failed: {}", program, first_line(content(errors.get())))};
  }
  return {adopt(std::move(svg), id), ""};
}

}  // namespace infalign::stages
