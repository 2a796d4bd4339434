// What adaptive attacks can see of an edited model, read off the model itself: a method declares
// nothing of it.
#pragma once

#include <string>
#include <vector>

#include "core/store.h"
#include "experiments/lab/lab.h"
#include "experiments/run/model_memory.h"

namespace excise {

// Of AttackTraits::adapts_to, what `edited` has: "text_encoder" where a tensor of it differs from
// the unmodified one's or hooks act inside it, "text_view" and "text_margin" where its hooks
// answer.
std::vector<std::string> OffersOf(const Backbone& base, const ErasedModel& edited);

// Whether attacks take part that adapt to something, and of some method it is not known yet whether
// it has that.
bool NeedsOffers(const Lab& lab);

// Fills lab->offers, where NeedsOffers: of every method the first removal that it claims is read
// or, where it is not stored, erased now, by `workers` threads. One that fails stays unknown; the
// run reports it where it erases for the table.
void LearnOffers(Lab* lab, Store& store, int workers);
// The same of what is stored, without any work.
void ReadStoredOffers(Lab* lab, Store& store);

}  // namespace excise
