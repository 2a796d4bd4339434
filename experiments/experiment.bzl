"""An experiment is one JSON file; its program is main.cc with every plug-in."""

load("@rules_cc//cc:defs.bzl", "cc_binary", "cc_library")

def experiment_main(name, deps):
    """What all tables' programs share: compiled once."""
    cc_library(
        name = name,
        srcs = ["main.cc"],
        alwayslink = 1,
        linkstatic = 1,
        deps = deps,
    )

def experiment(name, json, main):
    """A runnable table: bazel run //experiments:NAME -- --flags."""
    cc_binary(
        name = name,
        # Flags after `--` follow this one.
        args = ["$(rootpath %s)" % json],
        data = [
            json,
            "//datasets:data",
            "//models:emoji",
            "//protocols:data",
            "//results:committed",
        ],
        visibility = ["//visibility:public"],
        deps = [main],
    )
