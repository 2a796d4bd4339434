// A judge for tests of what is made of judges: it sees "nsfw" in bright pictures.
#pragma once

namespace excise {

// As the plug-in "stand_in", once.
void RegisterStandInJudge();

}  // namespace excise
