#include "distributed/line_socket.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace infalign::distributed {
namespace {

constexpr int kWaiting = 4096;  // connections that the system keeps until they are accepted

std::string words(int error) { return std::generic_category().message(error); }

int new_socket() { return socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0); }

sockaddr_in socket_address(in_addr address, std::uint16_t port) {
  sockaddr_in result{};
  result.sin_family = AF_INET;
  result.sin_addr = address;
  result.sin_port = htons(port);
  return result;
}

}  // namespace

LineSocket::LineSocket(LineSocket&& other) noexcept { *this = std::move(other); }

LineSocket& LineSocket::operator=(LineSocket&& other) noexcept {
  if (this == &other) return *this;
  close();
  descriptor_ = std::exchange(other.descriptor_, -1);
  state_ = other.state_;
  unsent_ = std::move(other.unsent_);
  unread_ = std::move(other.unread_);
  return *this;
}

void LineSocket::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}

void LineSocket::fail(int error) {
  if (state_ != State::kOpen) return;
  // A process that ends with something unread resets its connections.
  state_ = error == ECONNRESET || error == EPIPE ? State::kEnded : State::kBroken;
}

void LineSocket::send(std::string_view line) {
  unsent_ += line;
  unsent_ += '\n';
  flush();
}

bool LineSocket::flush() {
  while (state_ == State::kOpen && !unsent_.empty()) {
    const ssize_t sent = ::send(descriptor_, unsent_.data(), unsent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
    if (sent < 0) {
      fail(errno);
    } else {
      unsent_.erase(0, static_cast<std::size_t>(sent));
    }
  }
  return unsent_.empty();
}

std::vector<std::string> LineSocket::receive() {
  std::array<char, 1 << 14> piece;
  // What arrived before an end is still to be had after it.
  while (descriptor_ >= 0) {
    const ssize_t got = ::recv(descriptor_, piece.data(), piece.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got > 0) {
      unread_.append(piece.data(), static_cast<std::size_t>(got));
      continue;
    }
    if (got == 0) state_ = State::kEnded;
    if (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK) fail(errno);
    break;
  }
  std::vector<std::string> lines;
  std::size_t begin = 0;
  for (auto end = unread_.find('\n'); end != std::string::npos; end = unread_.find('\n', begin)) {
    lines.push_back(unread_.substr(begin, end - begin));
    begin = end + 1;
  }
  unread_.erase(0, begin);
  return lines;
}

LineSocket listen_anywhere(std::uint16_t& port) {
  LineSocket listening(new_socket());
  sockaddr_in address = socket_address({htonl(INADDR_ANY)}, 0);
  socklen_t size = sizeof address;
  auto* plain = reinterpret_cast<sockaddr*>(&address);
  if (listening.descriptor() < 0 || bind(listening.descriptor(), plain, size) != 0 ||
      listen(listening.descriptor(), kWaiting) != 0 || getsockname(listening.descriptor(), plain, &size) != 0)
    throw std::runtime_error("cannot listen for the other ranks: " + words(errno));
  port = ntohs(address.sin_port);
  return listening;
}

LineSocket accept_one(const LineSocket& listening) {
  return LineSocket(accept4(listening.descriptor(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
}

LineSocket connect_to(const std::string& address, std::uint16_t port, std::chrono::milliseconds limit,
                      std::string& failure) {
  in_addr binary{};
  LineSocket connection(new_socket());
  if (inet_pton(AF_INET, address.c_str(), &binary) != 1 || connection.descriptor() < 0) {
    failure = "not an address, or no sockets left";
    return {};
  }
  const sockaddr_in target = socket_address(binary, port);
  int error = 0;
  if (connect(connection.descriptor(), reinterpret_cast<const sockaddr*>(&target), sizeof target) != 0) {
    error = errno;
    if (error == EINPROGRESS) {
      pollfd ready{connection.descriptor(), POLLOUT, 0};
      socklen_t size = sizeof error;
      if (poll(&ready, 1, static_cast<int>(limit.count())) <= 0) {
        error = ETIMEDOUT;
      } else if (getsockopt(connection.descriptor(), SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
      }
    }
  }
  if (error != 0) {
    failure = words(error);
    return {};
  }
  const int on = 1;
  setsockopt(connection.descriptor(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return connection;
}

std::vector<std::string> own_addresses() {
  std::vector<std::string> others, loopback;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return {"127.0.0.1"};
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr || at->ifa_addr->sa_family != AF_INET || (at->ifa_flags & IFF_UP) == 0)
      continue;
    const auto* address = reinterpret_cast<const sockaddr_in*>(at->ifa_addr);
    std::array<char, INET_ADDRSTRLEN> text{};
    if (inet_ntop(AF_INET, &address->sin_addr, text.data(), text.size()) == nullptr) continue;
    ((at->ifa_flags & IFF_LOOPBACK) != 0 ? loopback : others).emplace_back(text.data());
  }
  freeifaddrs(list);
  others.insert(others.end(), loopback.begin(), loopback.end());
  return others;
}

}  // namespace infalign::distributed
