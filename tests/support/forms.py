"""Airflow's forms as a person fills them in and sends them: a run, a backfill, an answer to a run that asks."""

from __future__ import annotations

import json
import re
from datetime import date
from typing import Any

from playwright.sync_api import Locator, Page, Response, expect
from support.names import NAMES
from support.stacks import Stack, until

from tidemark.local.runs import ENDED
from tidemark.settings.airflow_names import Dag


class Fields:
    """Fields within a form, which go by the names of a DAG's parameters."""

    def __init__(self, within: Locator) -> None:
        self._within = within

    def fill(self, **values: Any) -> None:
        for name, value in values.items():
            match value:
                case bool():
                    self._switch(name, value)
                case list():
                    self._input(name).fill("\n".join(value))
                case dict():
                    self._write(name, json.dumps(value))
                case str() if self._list(name).count():
                    self._list(name).locator("input[role=combobox]").click()
                    self._within.get_by_role("option", name=value, exact=True).click()
                case _:
                    self._input(name).fill(str(value))

    def takes(self, name: str) -> bool:
        """Can that field be filled in?"""
        return self._input(name).is_enabled()

    def _input(self, name: str) -> Locator:
        return self._within.locator(f"[name=element_{name}]")

    def _list(self, name: str) -> Locator:
        """A field that offers a few texts."""
        return self._within.locator(f"#element_{name}", has=self._within.page.locator("input[role=combobox]"))

    def _switch(self, name: str, on: bool) -> None:
        if self._input(name).is_checked() != on:
            self._within.locator("label[data-scope=switch]", has=self._within.page.locator(f"[name=element_{name}]")).click()
        expect(self._input(name)).to_be_checked(checked=on)

    def _write(self, name: str, text: str) -> None:
        """Pastes it into an editor, which meddles with what is typed: it closes brackets by itself."""
        page = self._within.page
        editor = self._within.locator(f"#element_{name}")
        editor.locator(".view-line").first.click()
        expect(editor.locator(".monaco-editor.focused")).to_be_visible()
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.evaluate("text => navigator.clipboard.writeText(text)", text)
        for keys in ("ControlOrMeta+A", "ControlOrMeta+V"):
            page.keyboard.press(keys)


class Form(Fields):
    """The form of a DAG's button Trigger, opened."""

    def __init__(self, page: Page, dag: Dag) -> None:
        page.goto(f"/dags/{NAMES.of(dag)}")
        page.get_by_role("button", name="Trigger Dag").click()
        dialog = page.get_by_role("dialog").filter(has_text="Single Run")
        super().__init__(dialog)
        self.page, self._dialog = page, dialog
        dialog.get_by_text("Run Parameters").or_(dialog.get_by_text("Advanced Options")).first.wait_for()

    def trigger(self) -> str:
        """Starts the run; its id."""
        return str(self._send("Trigger", "dagRuns")["dag_run_id"])

    def backfill(self, first: date, last: date, **fields: Any) -> int:
        """Starts a backfill of days, the last included; its id."""
        self._dialog.get_by_text("Backfill", exact=True).click()
        for place, (name, day, hour) in enumerate((("From", first, "00:00"), ("To", last, "23:59"))):
            self._dialog.get_by_test_id("datetime-input").nth(place).click()
            of = self.page.get_by_role("textbox", name=name, exact=True)  # the other's may not have gone yet
            picker = self.page.locator("[data-scope=popover][data-part=content]:visible", has=of)
            picker.get_by_placeholder("YYYY/MM/DD").fill(f"{day:%Y/%m/%d}")
            picker.get_by_placeholder("HH:mm").fill(hour)
            self.page.keyboard.press("Escape")
        self.fill(**fields)
        return int(self._send("Run Backfill", "backfills")["id"])

    def _send(self, button: str, path: str) -> Any:
        def answers(response: Response) -> bool:
            return response.request.method == "POST" and re.search(rf"/{path}$", response.url) is not None

        with self.page.expect_response(answers) as sent:
            self._dialog.get_by_role("button", name=button, exact=True).click()
        assert sent.value.ok, sent.value.text()
        return sent.value.json()


def answer(page: Page, stack: Stack, dag: Dag, run: str, task: str, option: str, **fields: Any) -> str:
    """Waits until a run asks, answers on its page Required Actions until the answer is taken, and returns what stands there.

    Whoever answers before Airflow's scheduler has seen the end of the process that asked is asked again.
    """
    stack.question_of(run, dag, task)
    shown = ""

    def taken() -> bool:
        nonlocal shown
        page.goto(f"/dags/{NAMES.of(dag)}/runs/{run}/tasks/{task}/required_actions")
        button = page.get_by_test_id(f"hitl-option-{option}")
        button.wait_for()
        shown = page.locator("body").inner_text()
        form = Fields(page.locator("body"))
        form.fill(**{name: value for name, value in fields.items() if form.takes(name)})
        if button.is_enabled():
            with page.expect_response(lambda response: response.request.method == "PATCH"):
                button.click()
        return bool(until(lambda: stack.states(run, dag)[task], f"{task} has a state") & ENDED)

    until(taken, f"run {run} has taken the answer", lambda: f"{stack.states(run, dag)}{stack.logs()}")
    return shown
