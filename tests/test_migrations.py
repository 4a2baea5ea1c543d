"""A new version migrates while the earlier one serves, and the earlier one comes back on the new schema
(docs/operating.md). So a migration only adds, and none makes writes wait. Seen in its SQL."""

import inspect
import re
from collections.abc import Iterable, Iterator

import pytest
from django.db import connection, migrations
from django.db.migrations.loader import MigrationLoader

RELEASED = "0018_upload_pauses"  # the last one of 1.2.0, with which this version runs side by side
# Where one of the patterns below is wrong: the statement, and why.
FINE: dict[str, str] = {}

# For the earlier version, which knows nothing of it.
BREAKS = {
    r"\bDROP (?!INDEX CONCURRENTLY|NOT NULL)": "it may read or need that",
    r"\bRENAME\b": "it knows the old name",
    r"\bSET NOT NULL\b": "it may write none",
    r"\bADD COLUMN\b(?!.*\bDEFAULT\b).*\bNOT NULL\b": "its rows would lack that",
    r"\bALTER COLUMN \S+ TYPE\b": "it may write what does not fit, and the table may be written anew",
    r"\bADD COLUMN\b.*\bDEFAULT\b.*(?:random|uuid|clock_timestamp)": "the table is written anew",
    r"^\s*(?:TRUNCATE|UPDATE|DELETE|LOCK|CLUSTER|REINDEX (?!.*CONCURRENTLY))": "rows or the table are locked",
    r"\.(?:update|delete|bulk_update|save)\(": "rows are locked",
}
# The same, on a table that it uses.
BREAKS_A_TABLE = {
    r"\bCREATE INDEX (?!CONCURRENTLY).*? ON {}": "no row is written until it is built",
    r"\bCREATE UNIQUE INDEX\b.*? ON {}": "it may write a second one",
    r"\bALTER TABLE {} ADD CONSTRAINT\b(?!.*\bNOT VALID\b)": "every row is read under a lock, and it may write others",
}


def offences(statements: Iterable[str]) -> Iterator[tuple[str, str]]:
    statements = [one.replace('"', "") for one in statements if one not in FINE]
    made = {name for one in statements for name in re.findall(r"\bCREATE TABLE (\S+)", one)}
    old = r"(?!{})\S+".format("|".join(re.escape(name) + r"\b" for name in made) or "$^")
    patterns = BREAKS | {pattern.format(old): why for pattern, why in BREAKS_A_TABLE.items()}
    for one in statements:
        yield from ((one, why) for pattern, why in patterns.items() if re.search(pattern, one, re.DOTALL))


@pytest.mark.django_db(transaction=True)  # in a transaction no index can be built beside writers
def test_no_migration_since_the_last_release_breaks_the_earlier_version() -> None:
    sql, written = since_the_release()
    assert any("CREATE TABLE" in one for one in sql)
    assert written
    assert list(offences([*sql, *written])) == []


def since_the_release() -> tuple[list[str], list[str]]:
    """The statements of all migrations, and the lines of those that are Python. Nothing is executed."""
    loader = MigrationLoader(connection)
    found = sorted(key for key in loader.graph.nodes if key[0] == "accounts" and key[1] > RELEASED)
    plan = [loader.graph.nodes[key] for key in found]
    assert len(plan) > 5
    written = [
        line
        for migration in plan
        for operation in migration.operations
        if isinstance(operation, migrations.RunPython)
        for line in inspect.getsource(operation.code).splitlines()
    ]
    texts = loader.collect_sql([(migration, False) for migration in plan])
    return [one for text in texts for one in re.split(r";\s*\n", text)], written


def test_each_kind_of_break_is_seen_and_what_only_adds_is_not() -> None:
    wrong = [
        'ALTER TABLE "accounts_user" DROP COLUMN "gender" CASCADE;',
        'DROP TABLE "accounts_twostep" CASCADE;',
        'ALTER TABLE "accounts_user" ALTER COLUMN "language" DROP DEFAULT;',
        'DROP INDEX IF EXISTS "user_names";',
        'ALTER TABLE "accounts_twostep" RENAME TO "accounts_totp";',
        'ALTER TABLE "accounts_user" RENAME COLUMN "gender" TO "sex";',
        'ALTER TABLE "accounts_user" ALTER COLUMN "gender" SET NOT NULL;',
        'ALTER TABLE "accounts_user" ADD COLUMN "age" integer NOT NULL;',
        'ALTER TABLE "accounts_user" ADD COLUMN "key" uuid DEFAULT gen_random_uuid() NOT NULL;',
        'ALTER TABLE "accounts_user" ALTER COLUMN "gender" TYPE varchar(3);',
        "UPDATE accounts_user SET language = 'en'",
        "LOCK TABLE accounts_user",
        "    User.objects.filter(language='').update(language='en')",
        'CREATE INDEX "user_age" ON "accounts_user" ("age");',
        'CREATE UNIQUE INDEX CONCURRENTLY "user_age" ON "accounts_user" ("age");',
        'ALTER TABLE "accounts_user" ADD CONSTRAINT "user_age" CHECK ("age" > 3);',
        'ALTER TABLE "accounts_user" ADD CONSTRAINT "user_age" UNIQUE ("age");',
    ]
    right = [
        'ALTER TABLE "accounts_user" ADD COLUMN "age" integer NULL;',
        'ALTER TABLE "accounts_user" ADD COLUMN "typed" varchar(30) DEFAULT \'\' NOT NULL;',
        'ALTER TABLE "accounts_user" ALTER COLUMN "gender" DROP NOT NULL;',
        'ALTER TABLE "accounts_user" ADD CONSTRAINT "user_age" CHECK ("age" > 3) NOT VALID;',
        'CREATE INDEX CONCURRENTLY "user_age" ON "accounts_user" ("age");',
        'DROP INDEX CONCURRENTLY IF EXISTS "user_age";',
        'CREATE TABLE "accounts_new" ("id" bigint NOT NULL PRIMARY KEY, "user_id" uuid NOT NULL);',
        'CREATE UNIQUE INDEX "new_user" ON "accounts_new" ("user_id");',
        'ALTER TABLE "accounts_new" ADD CONSTRAINT "new_fk" FOREIGN KEY ("user_id") REFERENCES "accounts_user" ("id");',
    ]
    assert [one for one in wrong if not list(offences([one]))] == []
    assert list(offences(right)) == []
