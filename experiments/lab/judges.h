// Which judge says what a concept's pictures show, and whether it knows what is asked of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/json.h"
#include "datasets/formats/concept.h"
#include "datasets/formats/dataset.h"
#include "experiments/formats/experiment.h"

namespace excise {

struct Lab;

// The experiment's judge, where it names one: whoever runs it may choose another one that knows the
// same classes. Else the concept's, else the embedded model's own.
JudgeChoice JudgeOfConcept(const Experiment& experiment, const Concept& subject);
// What the lab's entry of it is called: one a plug-in and parameters.
std::string JudgeName(const JudgeChoice& choice);

// Opens the judges of lab->concepts, each once, and adds their files to lab->inputs. Throws
// UsageError for an unknown name or parameter, for a target or anchor that the judge does not know
// (it would never be found, which looks like perfect removal), and for a metric that reads features
// of a judge where there are several; Error where a judge lacks something.
void OpenJudges(Lab* lab);
// Throws UsageError when a prompt expects a class or style that the concept's judge does not know.
void CheckExpected(const Lab& lab, size_t subject,
                   const std::map<std::string, std::vector<Prompt>>& groups);

// {"name", "version", "classes", "threshold", "sha"} of the judge of these concepts, for records.
// One that has parameters has them as "params", one without a reject class "reject_class": false.
// Several are described together. `classes`: those that are looked for.
Json DescribeJudges(const Lab& lab, const std::vector<size_t>& subjects, const Json& classes);
// {"name", "sha"} of their oracle.
Json DescribeOracles(const Lab& lab, const std::vector<size_t>& subjects);

}  // namespace excise
