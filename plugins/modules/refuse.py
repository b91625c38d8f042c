#!/usr/bin/python
# Copyright: the ansible-sre-stack authors
# MIT License (see LICENSE)
"""Documentation of the action plugin of this name; there is nothing to run on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: refuse
short_description: Check a role's input in one task, and say what is wrong with it
description:
  - First the role's options as its C(meta/argument_specs.yml) has them for C(main); all that are invalid are named.
  - Then the checks, as a row of C(ansible.builtin.assert); the first that does not hold ends the task.
  - All in one process on the control node, instead of one for each.
options:
  checks:
    type: list
    elements: dict
    required: true
    description: What has to hold.
    suboptions:
      name: {type: str, required: true, description: "What is refused, for whoever reads the task."}
      that: {type: list, elements: str, required: true, description: "Conditions, as in C(when); all have to hold."}
      fail_msg: {type: str, required: true, description: "What is wrong, with the variable and what would be right."}
author: ansible-sre-stack authors
"""

EXAMPLES = r"""
- name: preflight | Check the input
  sre.stack.refuse:
    checks:
      - name: Refuse a lease below Patroni's floor
        that: patroni_ttl | int >= 20
        fail_msg: "patroni: patroni_ttl is {{ patroni_ttl }}; Patroni accepts no less than 20 (seconds)."
"""

RETURN = r""" # """
