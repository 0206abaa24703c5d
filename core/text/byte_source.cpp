#include "core/text/byte_source.h"

#include <zlib.h>

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"

namespace infalign::text {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 16;

/// Inflates what it is fed, member after member.
class GzipReader {
 public:
  explicit GzipReader(const std::filesystem::path& path) : path_(path) {
    // 16: a gzip header and trailer are expected, and nothing else.
    if (inflateInit2(&stream_, 16 + MAX_WBITS) != Z_OK) throw std::bad_alloc();
  }
  ~GzipReader() { inflateEnd(&stream_); }
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  void feed(std::string_view input, const std::function<void(std::string_view)>& visit) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input.data()));  // zlib only reads it
    stream_.avail_in = static_cast<uInt>(input.size());
    do {
      if (at_member_end_ && stream_.avail_in > 0) {
        inflateReset(&stream_);
        at_member_end_ = false;
      }
      stream_.next_out = reinterpret_cast<Bytef*>(output_.data());
      stream_.avail_out = static_cast<uInt>(output_.size());
      const int result = inflate(&stream_, Z_NO_FLUSH);
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)  // the last: it wants more input
        throw InputError(path_.string() + ": damaged gzip" +
                         (stream_.msg ? ": " + std::string(stream_.msg) : std::string()));
      at_member_end_ = result == Z_STREAM_END;
      visit({output_.data(), output_.size() - stream_.avail_out});
    } while (stream_.avail_in > 0 || stream_.avail_out == 0);
  }

  void finish() const {
    if (!at_member_end_) throw InputError(path_.string() + ": truncated gzip");
  }

 private:
  std::filesystem::path path_;
  z_stream stream_{};
  std::vector<char> output_ = std::vector<char>(kBlockBytes);
  bool at_member_end_ = false;
};

}  // namespace

void for_each_block(const std::filesystem::path& path,
                    const std::function<void(std::string_view bytes)>& visit) {
  if (std::filesystem::is_directory(path)) throw InputError(path.string() + ": is a folder, not a file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw InputError(path.string() + ": cannot be opened");
  std::vector<char> buffer(kBlockBytes);
  std::unique_ptr<GzipReader> gzip;
  for (bool first = true; file; first = false) {
    file.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    const std::string_view bytes(buffer.data(), static_cast<std::size_t>(file.gcount()));
    if (first && bytes.starts_with("\x1f\x8b")) gzip = std::make_unique<GzipReader>(path);
    if (bytes.empty()) break;
    if (gzip) {
      gzip->feed(bytes, visit);
    } else {
      visit(bytes);
    }
  }
  if (file.bad()) throw InputError(path.string() + ": cannot be read");
  if (gzip) gzip->finish();
}

}  // namespace infalign::text
