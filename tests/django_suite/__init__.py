"""Django's own test suite as an oracle: whatever it evaluates is exported too, and compared with what Django gave.

    python -m tests.django_suite                    every label, on SQLite and PostgreSQL
    python -m tests.django_suite ordering queries   two labels

`__main__` runs the suite in a process per database (`child`), whose querysets `watch` catches. `given` says what
Django gave for one, `exports` how it is exported and compared, `ties` which rows may come in any order, and
`findings` what came of it.
"""
