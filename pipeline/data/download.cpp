#include "pipeline/data/download.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <thread>

#include "core/common/error.h"
#include "core/common/file.h"
#include "core/common/hash.h"
#include "core/common/interrupt.h"
#include "core/common/json.h"

namespace vi::data {
namespace fs = std::filesystem;
namespace {

constexpr std::chrono::seconds kLongestBackOff{30};

// The part on disk, held by one process at a time. Beside it lies what the server said of the whole
// (validator, URL): a part is continued only if the server still means the same file.
class Part {
 public:
  explicit Part(const fs::path& target) : path_(target.string() + ".partial"), note_(target.string() + ".partial.json") {
    fs::create_directories(target.parent_path());
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd_ < 0) fail<IoError>("{}: cannot be written: {}", path_.string(), std::strerror(errno));
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      ::close(fd_);
      fail("{}: another process is downloading it", path_.string());
    }
    struct stat status = {};
    ::fstat(fd_, &status);
    size_ = status.st_size;
    if (size_ > 0 && fs::exists(note_)) try {
        const Json note = parse_json(read_file(note_), note_.string());
        url_ = note.value("url", "");
        validator_ = note.value("validator", "");
      } catch (const ContractError&) {  // torn by a kill: the part is made anew
      }
  }
  ~Part() {
    if (fd_ >= 0) ::close(fd_);
    std::error_code code;  // nothing arrived: leave nothing behind
    if (size_ == 0) fs::remove(path_, code), fs::remove(note_, code);
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;

  std::int64_t size() const { return size_; }
  const fs::path& path() const { return path_; }
  const std::string& validator() const { return validator_; }
  bool is_of(const std::string& url) const { return url_ == url; }

  void clear() {
    if (::ftruncate(fd_, 0) != 0) fail<IoError>("{}: cannot be emptied: {}", path_.string(), std::strerror(errno));
    size_ = 0;
    validator_.clear();
  }
  void remember(const std::string& url, const std::string& validator) {
    url_ = url, validator_ = validator;
    write_file_atomic(note_, Json{{"url", url}, {"validator", validator}}.dump() + "\n");
  }
  void append(const char* data, std::size_t n) {
    while (n > 0) {
      const ssize_t written = ::pwrite(fd_, data, n, size_);
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail<IoError>("{}: cannot be written: {}", path_.string(), std::strerror(errno));
      data += written, n -= static_cast<std::size_t>(written), size_ += written;
    }
  }
  void publish(const fs::path& target) {
    if (::fsync(fd_) != 0) fail<IoError>("{}: cannot be written: {}", path_.string(), std::strerror(errno));
    std::error_code code;
    fs::rename(path_, target, code);
    if (code) fail<IoError>("{}: cannot be renamed: {}", path_.string(), code.message());
    fs::remove(note_, code);
    fsync_directory(target.parent_path());
  }

 private:
  fs::path path_, note_;
  int fd_ = -1;
  std::int64_t size_ = 0;
  std::string url_, validator_;
};

std::optional<std::int64_t> whole_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

// The headers of the last response of a try (redirects come before it).
struct Reply {
  long status = 0;
  std::string etag, modified, type;
  std::optional<std::int64_t> length, range_begin, total;
  std::optional<std::int64_t> retry_after;  // seconds

  void header(std::string_view line) {
    if (line.starts_with("HTTP/")) {
      *this = {};
      const std::size_t space = line.find(' ');
      if (space != std::string_view::npos)
        status = static_cast<long>(whole_number(line.substr(space + 1, 3)).value_or(0));
      return;
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return;
    const std::string name = lower(line.substr(0, colon));
    std::string_view value = line.substr(colon + 1);
    const std::size_t begin = value.find_first_not_of(" \t");
    value = begin == std::string_view::npos ? "" : value.substr(begin, value.find_last_not_of(" \t\r\n") - begin + 1);
    if (name == "etag" && !value.starts_with("W/")) etag = value;  // a weak one does not mean equal bytes
    if (name == "last-modified") modified = value;
    if (name == "content-type") type = lower(value);
    if (name == "content-length") length = whole_number(value);
    if (name == "retry-after") retry_after = whole_number(value);
    if (name == "content-range" && value.starts_with("bytes ")) {
      value.remove_prefix(6);
      const std::size_t slash = value.find('/');
      if (slash == std::string_view::npos) return;
      total = whole_number(value.substr(slash + 1));
      range_begin = whole_number(value.substr(0, value.find('-')));
    }
  }
  std::string validator() const { return etag.empty() ? modified : etag; }
};

struct Transfer {
  const Download& wanted;
  Part& part;
  Progress& progress;
  CURL* curl = nullptr;
  Reply reply = {};
  bool body = false;         // its first byte has been seen, so the reply is judged
  std::int64_t asked = 0;    // Range: bytes=asked-
  std::int64_t arrived = 0;  // bytes of this try
  bool restarted = false;    // the server sent the whole although a part was asked for
  std::string refusal = {};       // why the body was not taken; not worth another try
  std::string mishap = {};        // the same, worth another try
  std::exception_ptr error = {};  // thrown inside a callback

  // The first bytes are here: is this the file, and where do they belong?
  bool accept() {
    const bool of_whole = reply.status == 200;
    const std::optional<std::int64_t> total = of_whole ? reply.length : reply.total;
    if (reply.type.starts_with("text/html")) {
      refusal = "the server sent a web page instead of the file";
      return false;
    }
    if (wanted.bytes && total && *total != *wanted.bytes) {
      refusal = fmt::format("the server offers {} bytes, expected {}", *total, *wanted.bytes);
      return false;
    }
    if (!of_whole && reply.range_begin != asked) {
      mishap = "the server sent another part than asked for";
      part.clear();
      return false;
    }
    if (of_whole && part.size() > 0) {
      restarted = true;
      progress.begin(wanted.target.filename().string(), total.value_or(wanted.bytes.value_or(-1)));
      part.clear();
    }
    if (part.size() == 0) part.remember(wanted.url, reply.validator());
    return true;
  }
};

std::size_t on_header(char* data, std::size_t size, std::size_t n, void* user) {
  static_cast<Transfer*>(user)->reply.header({data, size * n});
  return size * n;
}

std::size_t on_body(char* data, std::size_t size, std::size_t n, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  if (transfer.reply.status != 200 && transfer.reply.status != 206) return size * n;  // an error's page
  try {
    if (!transfer.body) {
      transfer.body = true;
      if (!transfer.accept()) return 0;
    }
    if (transfer.wanted.bytes && transfer.part.size() + static_cast<std::int64_t>(size * n) > *transfer.wanted.bytes) {
      transfer.refusal = fmt::format("the server sends more than the expected {} bytes", *transfer.wanted.bytes);
      transfer.part.clear();
      return 0;
    }
    transfer.part.append(data, size * n);
    transfer.arrived += static_cast<std::int64_t>(size * n);
    transfer.progress.advance(static_cast<std::int64_t>(size * n));
  } catch (...) {
    transfer.error = std::current_exception();
    return 0;
  }
  return size * n;
}

int on_progress(void*, curl_off_t, curl_off_t, curl_off_t, curl_off_t) { return interrupt_requested() ? 1 : 0; }

struct CurlLibrary {
  CurlLibrary() {
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) fail("libcurl cannot be initialised");
  }
};

using Easy = std::unique_ptr<CURL, void (*)(CURL*)>;

Easy make_easy(Transfer& transfer, const DownloadOptions& options) {
  static const CurlLibrary library;
  Easy easy(curl_easy_init(), curl_easy_cleanup);
  VI_CHECK(easy, "curl_easy_init failed");
  CURL* curl = transfer.curl = easy.get();
  const auto set = [&](CURLoption option, auto value) {
    const CURLcode code = curl_easy_setopt(curl, option, value);
    if (code != CURLE_OK) fail<ConfigError>("{}: {}", transfer.wanted.url, curl_easy_strerror(code));
  };
  set(CURLOPT_URL, transfer.wanted.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  set(CURLOPT_FOLLOWLOCATION, 1L);
  set(CURLOPT_MAXREDIRS, 10L);
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_USERAGENT, "vecinfer");
  set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(options.connect_timeout.count()));
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_timeout.count()));
  set(CURLOPT_HEADERFUNCTION, &on_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer));
  set(CURLOPT_WRITEFUNCTION, &on_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer));
  set(CURLOPT_XFERINFOFUNCTION, &on_progress);
  set(CURLOPT_NOPROGRESS, 0L);
  return easy;
}

std::string host_of(const std::string& url) {
  const std::size_t begin = url.find("://");
  if (begin == std::string::npos) return url;
  return url.substr(begin + 3, url.find('/', begin + 3) - begin - 3);
}

void wait(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
    check_interrupt();
    std::this_thread::sleep_for(std::min<std::chrono::milliseconds>(time, std::chrono::milliseconds(50)));
  }
}

// One connection. Returns "" when the body is complete as far as the server says, else what went
// wrong and may go right the next time.
std::string try_once(const Download& wanted, const DownloadOptions& options, Part& part, Progress& progress,
                     Transfer& transfer) {
  const Easy easy = make_easy(transfer, options);
  // A validator that differs makes the server send the whole instead of a part of something else.
  using List = std::unique_ptr<curl_slist, void (*)(curl_slist*)>;
  List headers(nullptr, curl_slist_free_all);
  transfer.asked = part.size();
  const std::string range = fmt::format("{}-", part.size());
  if (part.size() > 0) {
    curl_easy_setopt(easy.get(), CURLOPT_RANGE, range.c_str());
    if (!part.validator().empty())
      headers.reset(curl_slist_append(nullptr, ("If-Range: " + part.validator()).c_str()));
    curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
  }
  const CURLcode code = curl_easy_perform(easy.get());
  if (transfer.error) std::rethrow_exception(transfer.error);
  check_interrupt();
  if (!transfer.refusal.empty()) fail<ContractError>("{}: {}", wanted.url, transfer.refusal);
  if (!transfer.mishap.empty()) return transfer.mishap;
  const long status = transfer.reply.status;
  if (status == 416) {
    if (transfer.reply.total && *transfer.reply.total == part.size() && part.size() > 0) return "";  // all of it is here
    part.clear();
    progress.note(fmt::format("{}: the server cannot continue the part, it begins anew", wanted.target.filename().string()));
    return "416, range not satisfiable";
  }
  if (status >= 500 || status == 408 || status == 429) return fmt::format("the server answers {}", status);
  if (status >= 400)
    fail<ContractError>("{}: the server answers {}{}", wanted.url, status,
                        status == 404 || status == 410 ? ", there is no such file"
                        : status == 401 || status == 403 ? ", it is not given to everybody" : "");
  switch (code) {
    case CURLE_OK:
      return status == 200 || status == 206 ? "" : fmt::format("the server answers {}", status);
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
      return fmt::format("no connection to {} ({}; offline?)", host_of(wanted.url), curl_easy_strerror(code));
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
      fail("{}: {}", wanted.url, curl_easy_strerror(code));
    default:
      return curl_easy_strerror(code);
  }
}

}  // namespace

Downloaded download(const Download& wanted, const DownloadOptions& options, Progress& progress) {
  Part part(wanted.target);
  // Not continued: a part of unknown origin, one longer than the file, one whose end nothing could check.
  if (part.size() > 0 && (!part.is_of(wanted.url) || (wanted.bytes && part.size() > *wanted.bytes) ||
                          (part.validator().empty() && wanted.sha256.empty())))
    part.clear();
  Downloaded result;
  result.resumed_from = part.size();
  const std::string name = wanted.target.filename().string();
  progress.begin(name, wanted.bytes.value_or(-1));
  progress.advance(part.size());
  struct EndProgress {
    Progress& progress;
    ~EndProgress() { progress.end(); }
  } end_progress{progress};
  auto back_off = options.back_off;
  bool checked_once = false;
  int fruitless = 0;
  for (result.tries = 1;; ++result.tries) {
    check_interrupt();
    Transfer transfer{wanted, part, progress};
    std::string problem;
    if (!(wanted.bytes && part.size() == *wanted.bytes && part.size() > 0))  // else killed before the rename
      problem = try_once(wanted, options, part, progress, transfer);
    if (transfer.restarted) result.resumed_from = 0;
    if (problem.empty() && wanted.bytes && part.size() < *wanted.bytes)
      problem = fmt::format("the connection ended after {} of {} bytes", part.size(), *wanted.bytes);
    if (problem.empty()) {
      result.sha256 = sha256_file(part.path());
      result.bytes = part.size();
      if (wanted.sha256.empty() || result.sha256 == wanted.sha256) break;
      const std::int64_t bytes = part.size();
      part.clear();
      if (checked_once || (result.tries == 1 && result.resumed_from == 0))
        fail<ContractError>("{}: the {} bytes that arrived have sha256 {}, expected {}; nothing was kept", wanted.url,
                            bytes, result.sha256, wanted.sha256);
      checked_once = true;  // pieces of two versions may have met: once more, in one piece
      result.resumed_from = 0;
      problem = "wrong checksum after pieces were put together, once more from the start";
      progress.begin(name, wanted.bytes.value_or(-1));
    }
    fruitless = transfer.arrived > 0 && !transfer.restarted ? 1 : fruitless + 1;
    if (fruitless >= options.tries)
      fail("{}: {} after {} tries; {} bytes are kept in {}, run the same command again to continue, or give a folder "
           "of local files with --data",
           wanted.url, problem, result.tries, part.size(), part.path().string());
    if (transfer.arrived > 0) back_off = options.back_off;
    auto pause = back_off;
    if (transfer.reply.retry_after)
      pause = std::max<std::chrono::milliseconds>(pause, std::chrono::seconds(std::min<std::int64_t>(*transfer.reply.retry_after, 60)));
    progress.note(fmt::format("{}: {}; next try in {:.1f} s", name, problem, static_cast<double>(pause.count()) / 1000));
    wait(pause);
    back_off = std::min<std::chrono::milliseconds>(2 * back_off, kLongestBackOff);
  }
  part.publish(wanted.target);
  return result;
}

}  // namespace vi::data
