// How an attack got at a method, as a record tells it.
#pragma once

#include <cstdint>

#include "experiments/results/record.h"

namespace excise {

enum class Access {
  kNone,       // crafted once for all methods, brought from a file, or found on another row
  kQuestions,  // it asked the method for pictures, and read nothing else of it
  kFull,       // it computed on the method itself, with gradients or without
};

// Of an attacked record. Prompts that were found on the record's own row had access to it.
Access AccessOf(const Record& record);

// Whether the attack is on single prompts, and not once on a concept.
bool IsPerPrompt(const Record& record);

// The most pictures that it may ask the method for; 0 where it asks none.
int64_t QuestionsOf(const Record& record);

}  // namespace excise
