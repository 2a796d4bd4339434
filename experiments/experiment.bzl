"""An experiment is one JSON file; its program is main.cc with every plug-in."""

load("@rules_cc//cc:defs.bzl", "cc_binary")

def experiment(name, json):
    """A runnable table: bazel run //experiments:NAME -- --flags."""
    cc_binary(
        name = name,
        srcs = ["main.cc"],
        # Flags after `--` follow this one.
        args = ["$(rootpath %s)" % json],
        data = [
            json,
            "//datasets:data",
            "//models:emoji",
            "//results:committed",
        ],
        visibility = ["//visibility:public"],
        deps = [
            ":experiments",
            "//attacks:plugins",
            "//core:version",
            "//datasets:plugins",
            "//methods:plugins",
            "//metrics:plugins",
            "//third_party:cli11",
            "//third_party:fmt",
        ],
    )
