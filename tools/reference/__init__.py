"""The pages below `docs/reference`, made from the code that they describe.

`commands` reads the command lines, `settings` the options and `conf/main.yaml`, `rest` and
`routes` the APIs; `__main__` writes the pages, or tells which of them aren't current.
"""
