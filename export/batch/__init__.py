"""Any number of rows answered, on engines that exist: `python -m export.batch`.

An engine is a file of this folder with a `run`; all of them take `parts.parts_of` a file and `answer.answer` a part.
"""
