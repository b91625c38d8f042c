# Each target says what it is for in the comment after ##; `make` alone prints them.
LAB ?= lab
export LAB
# Relative: the path of the checkout may have spaces in it.
VENV := .venv
# The virtual environment is used by every target without being activated.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# Ansible demands UTF-8.
export LC_ALL := C.UTF-8
# Where it is set, each of Ansible's processes compiles again what it imports, many times in a run.
unexport PYTHONDONTWRITEBYTECODE
STAMP := $(VENV)/.installed
# Plain lines, not wrapped into a frame.
export MOLECULE_COMMAND_BORDERS ?= false
# The installer trusts the certificates that this machine trusts, and reads pip's index where one is set.
export UV_NATIVE_TLS ?= true
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# "prerequisites" comes before "venv" wherever a target names both.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help prerequisites venv lab test elastic-8 chaos chaos-profiles bench lint docs lock destroy

help: ## Show this list
	@echo "Targets (LAB=name chooses another lab than '$(LAB)', LAB_DEBIAN=12 Debian 12 for its hosts instead of 13, LAB_APP_HOSTS=2 two app hosts):"
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prerequisites: ## Install what this machine lacks and start Docker (Debian, root)
	@scripts/prerequisites

venv: $(STAMP) ## Make the Python environment with Ansible and the test tools in .venv
	@echo "Python environment: $(CURDIR)/$(VENV) (to use it in this shell: . .venv/bin/activate)"

$(STAMP): requirements/dev.txt requirements/uv.txt
	@echo "Making the Python environment in .venv (about half a minute)"
	@"$$(scripts/find-python)" -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
	@VIRTUAL_ENV=$(VENV) $(VENV)/bin/uv pip sync --quiet --require-hashes requirements/dev.txt
	@touch $@

lab: prerequisites venv ## Make four Docker "VMs", set up the whole stack on them, cast votes, say where to look
	@ansible-playbook playbooks/lab.yml
	@echo "For the playbooks in this shell: . $(VENV)/bin/activate"

test: prerequisites venv ## Run everything: linters, unit tests and the stack on fresh "VMs"
	@scripts/steps \
		lint 'scripts/lint' \
		pytest 'pytest tests/unit tests/policy app' \
		molecule 'molecule test'

elastic-8: prerequisites venv ## Test role elasticsearch with Elasticsearch 8.19, as much of it as Maven Central has
	@molecule test -s elastic_8

chaos: prerequisites venv ## Run every chaos experiment on the lab, RUNS=n times each, and write the table of all figures
	@ansible-playbook playbooks/chaos-all.yml -e chaos_runs=$(or $(RUNS),1)

chaos-profiles: prerequisites venv ## Lose the primary under others' settings of Patroni, and say what each costs (half an hour)
	@ansible-playbook playbooks/chaos-profiles.yml

bench: prerequisites venv ## Measure the lab beside something plainer, in ten minutes (ONLY=site,first,votes,event: parts)
	@python -m tools.bench $(if $(ONLY),--only $(ONLY))

lint: prerequisites venv ## Run the linters only
	@scripts/lint

docs: venv ## Write the variable tables in the roles' READMEs
	@python tools/role_readme.py

lock: venv ## Write the lock files of the Python packages anew (UPGRADE=1 takes the newest versions)
	@scripts/lock $(if $(UPGRADE),--upgrade)

destroy: prerequisites venv ## Remove the lab: its containers, network, volumes and .lab/<name>
	@ansible-playbook playbooks/lab-destroy.yml
