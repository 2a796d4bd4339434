// Protocols by name: how a paper measured, as settings of an experiment and files of the user that
// are held to their digests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

// A file that the user brings, and the setting that names it.
struct ProtocolFile {
  std::string setting;  // "prompts.params.file"
  std::string name;     // as it lies in the folder of --protocol_files
  std::string what;     // where it comes from
  std::string sha256;   // "": any (weights that everybody converts alike have none published)
};

struct Protocol {
  std::string name, title, paper, source;
  std::vector<std::string> deviations;  // from what the source does
  std::vector<ProtocolFile> files;
  Json experiment = Json::object();  // overrides of an experiment
  std::string sha256;                // of the protocol's file
};

// Reads a protocol's file; its name is the file's stem. Throws Error naming the file and the place.
Protocol LoadProtocol(const std::filesystem::path& file);

// Names of the protocols in a folder, sorted.
std::vector<std::string> ListProtocols(const std::filesystem::path& folder);

// What ExperimentChoices::protocol takes: the overrides, with the paths of the files in `folder`, a
// caption, and the protocol's name and digest. Throws UsageError that lists, file by file, what is
// missing there and what is another one, with the digests that are expected.
Json ProtocolSettings(const Protocol& protocol, const std::filesystem::path& folder);

// Of an experiment's JSON that follows the protocol with these settings: writes into its "protocol"
// what differs from `before` in the sections that the protocol sets, and which `flags` changed it
// otherwise, and into its caption that it is another protocol then.
void TellChanges(const Json& settings, const Json& before, const std::vector<std::string>& flags,
                 Json* experiment);

}  // namespace excise
