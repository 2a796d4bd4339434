"""A precompiled header: what nearly every file includes, parsed once instead of 300 times.

A compiler takes one only where its own flags are the same, so the command line comes from the same
place as those of cc_library and cc_test.
"""

load("@bazel_tools//tools/cpp:toolchain_utils.bzl", "find_cpp_toolchain")

def _command_line(ctx, toolchain, compilation, source, output):
    features = cc_common.configure_features(
        ctx = ctx,
        cc_toolchain = toolchain,
        requested_features = ctx.features,
        unsupported_features = ctx.disabled_features,
    )
    variables = cc_common.create_compile_variables(
        feature_configuration = features,
        cc_toolchain = toolchain,
        source_file = source.path,
        output_file = output.path,
        user_compile_flags = ctx.fragments.cpp.copts + ctx.fragments.cpp.cxxopts + ctx.attr.copts + ["-x", "c++-header"],
        quote_include_directories = compilation.quote_includes,
        include_directories = compilation.includes,
        system_include_directories = compilation.system_includes,
        preprocessor_defines = compilation.defines,
        use_pic = True,
    )
    return cc_common.get_memory_inefficient_command_line(
        feature_configuration = features,
        action_name = "c++-compile",
        variables = variables,
    )

def _precompiled_header_impl(ctx):
    toolchain = find_cpp_toolchain(ctx)
    compilation = cc_common.merge_cc_infos(
        cc_infos = [dep[CcInfo] for dep in ctx.attr.deps],
    ).compilation_context

    # The compiler looks for x.h.gch where it finds x.h.
    header = ctx.actions.declare_file("%s/%s" % (ctx.label.name, ctx.file.header.basename))
    ctx.actions.symlink(output = header, target_file = ctx.file.header)
    precompiled = ctx.actions.declare_file(header.basename + ".gch", sibling = header)
    ctx.actions.run(
        executable = toolchain.compiler_executable,
        arguments = _command_line(ctx, toolchain, compilation, header, precompiled),
        inputs = depset([header], transitive = [compilation.headers, toolchain.all_files]),
        outputs = [precompiled],
        mnemonic = "PrecompileHeader",
        progress_message = "Precompiling %s" % ctx.file.header.short_path,
    )
    headers = cc_common.create_compilation_context(headers = depset([header, precompiled]))

    # Headers alone: who needs the libraries says so.
    return [CcInfo(compilation_context = cc_common.merge_cc_infos(cc_infos = [
        CcInfo(compilation_context = headers),
        CcInfo(compilation_context = compilation),
    ]).compilation_context)]

precompiled_header = rule(
    implementation = _precompiled_header_impl,
    attrs = {
        "header": attr.label(allow_single_file = [".h"], mandatory = True),
        "deps": attr.label_list(providers = [CcInfo]),
        "copts": attr.string_list(doc = "what .bazelrc adds for the files that use it"),
        "_cc_toolchain": attr.label(default = "@bazel_tools//tools/cpp:current_cc_toolchain"),
    },
    fragments = ["cpp"],
    toolchains = ["@bazel_tools//tools/cpp:toolchain_type"],
)
