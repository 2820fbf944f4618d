"""Hook of MkDocs: puts the pages that lie beside docs/ on the site, and the options of every command below commands.md.

So each text has one source, which a repository's pages show as well.
"""

import re
from pathlib import Path

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.cli import get_docs_for_click

from pipelines.cli.app import app

ROOT = Path(__file__).parents[1]
BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "LICENSE": "licence.txt",
    "CITATION.cff": "citation.txt",
}
"""Files beside docs/, by the names that they have on the site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files beside docs/."""
    for name, uri in BESIDE.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns links between files of the repository into links between pages, and adds what is generated."""
    if page.file.src_uri == "commands.md":
        markdown += f"\n## Options\n\n{options()}"
    markdown = re.sub(
        r"\]\((?:\.\./)?([A-Z]+(?:\.\w+)?)(?=[)#])", lambda link: f"]({BESIDE.get(link[1], link[1])}", markdown
    )
    # The tables of repositories' pages need the backslash in `a\|b`, and MkDocs shows it.
    markdown = re.sub(r"`[^`\n]*`", lambda code: code[0].replace("\\|", "|"), markdown)
    return markdown.replace("](docs/", "](")


def options() -> str:
    """Every command's help as Markdown."""
    group = typer.main.get_command(app)
    context = typer.Context(group)
    commands = group.list_commands(context)
    texts = (
        get_docs_for_click(obj=group.get_command(context, name), ctx=context, name=name, call_prefix="study", indent=2)
        for name in commands
    )
    # Outside code, <model> would be taken for HTML.
    return re.sub(r"(`[^`]*`)|<", lambda part: part[1] or "&lt;", "\n".join(texts))
