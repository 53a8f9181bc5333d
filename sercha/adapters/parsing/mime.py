"""The kind of a file by its name, from a table of our own: the same on every machine."""

from __future__ import annotations

MARKDOWN = "text/markdown"
PLAIN_TEXT = "text/plain"

_BY_SUFFIX = {
    "adoc": "text/asciidoc",
    "asm": "text/x-asm",
    "bash": "text/x-shellscript",
    "bat": "text/x-bat",
    "bib": "text/x-bibtex",
    "c": "text/x-c",
    "cc": "text/x-c++",
    "cfg": "text/x-ini",
    "clj": "text/x-clojure",
    "cmake": "text/x-cmake",
    "conf": "text/x-ini",
    "cpp": "text/x-c++",
    "cs": "text/x-csharp",
    "css": "text/css",
    "csv": "text/csv",
    "cxx": "text/x-c++",
    "dart": "text/x-dart",
    "diff": "text/x-diff",
    "eml": "message/rfc822",
    "erl": "text/x-erlang",
    "ex": "text/x-elixir",
    "exs": "text/x-elixir",
    "fish": "text/x-shellscript",
    "go": "text/x-go",
    "gradle": "text/x-groovy",
    "graphql": "application/graphql",
    "groovy": "text/x-groovy",
    "h": "text/x-c",
    "hpp": "text/x-c++",
    "hs": "text/x-haskell",
    "htm": "text/html",
    "html": "text/html",
    "ics": "text/calendar",
    "ini": "text/x-ini",
    "ipynb": "application/x-ipynb+json",
    "java": "text/x-java",
    "jl": "text/x-julia",
    "js": "text/javascript",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "jsx": "text/jsx",
    "kt": "text/x-kotlin",
    "less": "text/x-less",
    "lisp": "text/x-lisp",
    "log": PLAIN_TEXT,
    "lua": "text/x-lua",
    "m": "text/x-objectivec",
    "markdown": MARKDOWN,
    "md": MARKDOWN,
    "mdown": MARKDOWN,
    "mdx": MARKDOWN,
    "mjs": "text/javascript",
    "mkd": MARKDOWN,
    "ml": "text/x-ocaml",
    "nix": "text/x-nix",
    "org": "text/org",
    "patch": "text/x-diff",
    "php": "text/x-php",
    "pl": "text/x-perl",
    "pm": "text/x-perl",
    "po": "text/x-gettext-translation",
    "properties": "text/x-java-properties",
    "proto": "text/x-protobuf",
    "ps1": "text/x-powershell",
    "py": "text/x-python",
    "pyi": "text/x-python",
    "pyw": "text/x-python",
    "pyx": "text/x-cython",
    "r": "text/x-r",
    "rb": "text/x-ruby",
    "rs": "text/x-rust",
    "rst": "text/x-rst",
    "sass": "text/x-sass",
    "scala": "text/x-scala",
    "scm": "text/x-scheme",
    "scss": "text/x-scss",
    "sh": "text/x-shellscript",
    "sql": "text/x-sql",
    "srt": "text/x-subrip",
    "svg": "image/svg+xml",
    "swift": "text/x-swift",
    "tcl": "text/x-tcl",
    "tex": "text/x-tex",
    "tf": "text/x-terraform",
    "toml": "application/toml",
    "ts": "text/x-typescript",
    "tsv": "text/tab-separated-values",
    "tsx": "text/x-typescript",
    "txt": PLAIN_TEXT,
    "vcf": "text/vcard",
    "vim": "text/x-vim",
    "vue": "text/x-vue",
    "xhtml": "application/xhtml+xml",
    "xml": "text/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zig": "text/x-zig",
    "zsh": "text/x-shellscript",
}
_BY_NAME = {
    "cmakelists.txt": "text/x-cmake",
    "containerfile": "text/x-dockerfile",
    "dockerfile": "text/x-dockerfile",
    "gemfile": "text/x-ruby",
    "gnumakefile": "text/x-makefile",
    "jenkinsfile": "text/x-groovy",
    "justfile": "text/x-makefile",
    "makefile": "text/x-makefile",
    "rakefile": "text/x-ruby",
}
_BY_INTERPRETER = (
    (b"python", "text/x-python"),
    (b"node", "text/javascript"),
    (b"perl", "text/x-perl"),
    (b"ruby", "text/x-ruby"),
    (b"sh", "text/x-shellscript"),
)


def text_type(path: str, head: bytes = b"") -> str:
    """Return the type of a text by the last name in *path*, or by the interpreter its first line names."""
    name = path.rsplit("/", 1)[-1].lower()
    known = _BY_NAME.get(name) or _BY_SUFFIX.get(name.rpartition(".")[2] if "." in name else "")
    if known:
        return known
    if head.startswith(b"#!"):
        line = head[:200].split(b"\n", 1)[0]
        for interpreter, mime_type in _BY_INTERPRETER:
            if interpreter in line:
                return mime_type
    return PLAIN_TEXT
