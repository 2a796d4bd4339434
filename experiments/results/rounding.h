// How far rounding moves a number. Other instructions give other last bits; from these now and then
// another picture grows, of which the judge says something else. What is allowed here follows from
// measured runs and from the replay alone, never from the file that is checked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/json.h"

namespace excise {

// Of `n` pictures of a cell, or of a whole table, the most that may come out otherwise.
int64_t MostRounded(int64_t n);

// How far the value of `replayed`, a record with a number, may be from that on other instructions:
// as far as MostRounded pictures move it.
double RoundingTolerance(const Json& replayed);

// What MostRounded is, in words, for who reads a verdict.
std::string RoundingInWords();

// The record without what is measured: who was asked what, and how. No instruction changes it.
Json QuestionOf(const Json& record);

// Where the measured part of `there` is further from `replayed`, a record of the same question,
// than rounding explains: one line each.
std::vector<std::string> BeyondRounding(const std::string& name, const Json& there,
                                        const Json& replayed);

}  // namespace excise
