#include "core/input_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/hash.h"

namespace excise {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNanoseconds = 1'000'000'000;
// FAT has the coarsest times; a kernel's own clock ticks every few milliseconds.
constexpr int64_t kTick = 2 * kNanoseconds;
// Two links a folder double the paths at every level.
constexpr int kMostLinkedFolders = 1000;

int64_t Nanoseconds(const timespec& time) { return time.tv_sec * kNanoseconds + time.tv_nsec; }

FileIdentity IdentityOf(const struct stat& status) {
  return {status.st_dev, status.st_ino, static_cast<uint64_t>(status.st_size),
          Nanoseconds(status.st_mtim), Nanoseconds(status.st_ctim)};
}

[[noreturn]] void FailChanged(const fs::path& path) {
  throw Error(fmt::format(
      "{} was changed, replaced or removed while this run was using it, so what was read is not "
      "what was hashed. Nothing made from it was stored. Run again, and leave it alone meanwhile.",
      path.string()));
}

[[noreturn]] void FailToRead(const fs::path& path, const std::string& reason) {
  std::error_code problem;
  const fs::path target = fs::read_symlink(path, problem);
  throw Error(fmt::format("{}{} cannot be read: {}.", path.string(),
                          problem ? "" : fmt::format(", a link to {},", target.string()), reason));
}

// Collects what is below a folder.
class Walk {
 public:
  void Visit(const fs::path& path, const std::string& name, bool link) {
    InputFile file(path);
    if (!file.IsFile() && !file.IsFolder()) FailToRead(path, "it is neither a file nor a folder");
    const FileIdentity identity = file.identity();
    const bool folder = file.IsFolder();
    files_.emplace(name, std::move(file));
    if (!folder) return;
    if (link && ++links_ > kMostLinkedFolders) {
      FailToRead(path, fmt::format("more than {} folders are reached by links, so they probably "
                                   "lead to each other",
                                   kMostLinkedFolders));
    }
    const auto itself = [&](const FileIdentity& above) {
      return above.device == identity.device && above.inode == identity.inode;
    };
    if (std::any_of(above_.begin(), above_.end(), itself)) {
      FailToRead(path, "it leads to a folder that contains it, so reading would never end");
    }
    above_.push_back(identity);
    VisitAll(path, name);
    above_.pop_back();
  }

  std::map<std::string, InputFile> Take() { return std::move(files_); }

 private:
  void VisitAll(const fs::path& folder, const std::string& name) {
    std::error_code problem;
    fs::directory_iterator entry(folder, problem);
    for (; !problem && entry != fs::directory_iterator(); entry.increment(problem)) {
      const std::string below = entry->path().filename().string();
      std::error_code ignored;
      const bool link = entry->is_symlink(ignored);
      Visit(entry->path(), name.empty() ? below : name + "/" + below, link);
    }
    if (problem) FailToRead(folder, problem.message());
  }

  std::map<std::string, InputFile> files_;
  std::vector<FileIdentity> above_;  // folders from the root to here
  int links_ = 0;
};

// Files first: a file that was replaced is a better name for the change than its folder.
void RequireAllUnchanged(const std::map<std::string, InputFile>& files) {
  for (const bool folders : {false, true}) {
    for (const auto& [name, file] : files) {
      if (file.IsFolder() == folders) file.RequireUnchanged();
    }
  }
}

bool AllSettled(const std::map<std::string, InputFile>& files, int64_t now_ns) {
  return std::all_of(files.begin(), files.end(),
                     [&](const auto& entry) { return entry.second.identity().Settled(now_ns); });
}

}  // namespace

bool FileIdentity::operator==(const FileIdentity& other) const {
  const auto all = [](const FileIdentity& one) {
    return std::tie(one.device, one.inode, one.size, one.modified_ns, one.changed_ns);
  };
  return all(*this) == all(other);
}

bool FileIdentity::Settled(int64_t now_ns) const {
  // Far ahead of us is the clock of another machine, which does not come back to this time.
  return std::abs(now_ns - changed_ns) > kTick;
}

int64_t NowInNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return Nanoseconds(now);
}

InputFile::InputFile(fs::path path) : path_(std::move(path)) {
  struct stat status {};
  if (stat(path_.c_str(), &status) != 0) FailToRead(path_, std::strerror(errno));
  identity_ = IdentityOf(status);
  mode_ = status.st_mode;
}

void InputFile::RequireUnchanged() const {
  struct stat status {};
  if (stat(path_.c_str(), &status) != 0 || !(IdentityOf(status) == identity_)) FailChanged(path_);
}

void RequireSha256(const fs::path& path, const std::string& sha256) {
  std::error_code problem;
  if (!fs::is_regular_file(path, problem) || Sha256HexOfFile(path) != sha256) FailChanged(path);
}

std::map<std::string, InputFile> FilesOf(const fs::path& path) {
  Walk walk;
  walk.Visit(path, "", /*link=*/false);
  return walk.Take();
}

std::string InputFiles::Add(const fs::path& path) {
  const int64_t now = NowInNanoseconds();
  Input input{path, "", FilesOf(path)};
  input.settled = AllSettled(input.files, now);
  input.sha256 = Sha256HexOfPath(path);
  RequireAllUnchanged(input.files);
  const std::string sha256 = input.sha256;
  const std::lock_guard<std::mutex> lock(mutex_);
  inputs_.push_back(std::move(input));
  return sha256;
}

void InputFiles::Check() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Input& input : inputs_) {
    RequireAllUnchanged(input.files);
    if (input.settled) continue;
    // Hashed within a tick of its last change: a later one may have left no trace.
    const bool settled = AllSettled(input.files, NowInNanoseconds());
    if (Sha256HexOfPath(input.path) != input.sha256) FailChanged(input.path);
    input.settled = settled;
  }
}

}  // namespace excise
