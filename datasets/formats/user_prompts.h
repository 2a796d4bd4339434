// Prompt files of the user (CSV or JSONL), for data sets and attacks: what is checked before a row
// is used, how columns are found, and what is always left out.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/csv.h"
#include "core/params.h"
#include "datasets/formats/dataset.h"

namespace excise {

// Which file, and what it must be. Published lists change under one name, so size, digest and
// number of rows can be asked for.
struct UserFile {
  std::string path, sha256;
  int64_t bytes = 0, rows = 0;
  std::vector<std::string> columns;  // "prompt=caption": the field "prompt" stands in "caption"
  void Fields(ParamVisitor& v);
};

// A field that a plug-in reads, and the column names under which published files have it, the first
// that occurs wins.
struct FieldNames {
  std::string field;
  std::vector<std::string> columns;
};

class UserTable {
 public:
  // Reads and checks the file. Throws UsageError naming the file, what was expected and what was
  // found: size, digest, rows, a column that `columns` names and the file lacks, a `required` field
  // without column (a file without header).
  UserTable(const UserFile& file, const std::vector<FieldNames>& fields,
            const std::string& required, std::string_view plugin);

  const std::vector<FileRow>& rows() const { return file_.rows; }
  bool Has(const std::string& field) const { return column_of_.count(field) != 0; }
  // nullopt: no such column, or null, or only spaces. Spaces at both ends are left out.
  std::optional<std::string> Get(const FileRow& row, const std::string& field) const;
  // Columns that no field reads.
  const std::vector<std::string>& unread() const { return unread_; }
  const std::string& path() const { return path_; }
  const std::string& sha256() const { return sha256_; }
  // "prompts.csv, line 12"
  std::string Where(const FileRow& row) const;

 private:
  void Check(const UserFile& file) const;
  void FindColumns(const UserFile& file, const std::vector<FieldNames>& fields);

  std::string path_, sha256_;
  RowFile file_;
  std::map<std::string, std::string> column_of_;
  std::vector<std::string> unread_;
};

// Reasons for which a row is left out.
inline constexpr const char* kMinor = "excluded:minor";
inline constexpr const char* kDuplicate = "excluded:duplicate";
inline constexpr const char* kEmpty = "excluded:empty";

// An empty or minor-mentioning text's reason, or "" (datasets/formats/minors.h).
std::string ReasonToExclude(std::string_view text);

// "Tropical fish" -> "tropical_fish": how concepts are named in files of others.
std::string ConceptKey(std::string_view text);

}  // namespace excise
