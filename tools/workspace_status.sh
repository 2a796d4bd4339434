#!/bin/sh
# What is stamped into binaries (core/version.h). Runs in the workspace root before every build.
commit=$(git rev-parse HEAD 2>/dev/null) || commit=unknown
dirty=0
if [ "$commit" != unknown ] && [ -n "$(git status --porcelain --untracked-files=no 2>/dev/null)" ]; then
  dirty=1
fi
echo "STABLE_GIT_COMMIT $commit"
echo "STABLE_GIT_DIRTY $dirty"
