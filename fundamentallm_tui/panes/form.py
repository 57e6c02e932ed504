"""The form and the run under way: what can be changed in it now, and the edits that the run does not have yet."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from textual import on
from textual.binding import Binding
from textual.message import Message

from fundamentallm.config.config import SETTINGS, Config
from fundamentallm_tui import keys
from fundamentallm_tui.panes.cells import Cell
from fundamentallm_tui.panes.fields import Fields
from fundamentallm_tui.panes.settings_form import EDITED, SENT, SettingsForm
from fundamentallm_tui.panes.values import PRESET, as_text
from fundamentallm_tui.state.launch import Options

LIVE = tuple(name for name, row in SETTINGS.items() if row.live)


class Form(SettingsForm):
    """While a run is under way, what is typed into a live setting is pending until enter applies it."""

    commands = keys.FORM
    BINDINGS = [Binding("escape", "take_back", "Take the edit back", id="leave", show=False)]

    @dataclass
    class Applied(Message):
        """The user wants to change these settings of the run under way."""

        values: dict[str, Any]

    def __init__(self, options: Options, config: Config, *, id: str) -> None:
        super().__init__(options, config, id=id)
        self._run_config: Config | None = None  # the settings of the run under way

    def follow_run(
        self, locked: Collection[str], running: Config | None, sent: Collection[str], refused: Mapping[str, str]
    ) -> None:
        """Lock what cannot be changed now, and show the settings of a run, but in fields that are being edited.

        Args:
            locked: the settings that cannot be changed now; with any of them the preset, too.
            running: the settings of the run under way as they are now; None: no run takes commands.
            sent: the settings whose change the run has not answered yet.
            refused: why the run refused a change, by setting; its field shows the true value again.
        """
        cells, before, values = self.fields.cells, self._run_config, dict[str, str]()
        for name in LIVE:
            cell = cells[name]
            if running is None:
                cell.marked |= bool(cell.pending)  # the next start makes the change
            elif before is None or name in refused or cell.value == as_text(name, getattr(before, name)):
                values[name] = as_text(name, getattr(running, name))
            if running is not None and before is not None and getattr(before, name) != getattr(running, name):
                cell.marked = self.differs(name, running)
            cell.pending = SENT if name in sent else ""
        self._run_config = running
        if running is not None:
            self._found["run"] |= refused
        elif self._found["run"]:  # the next start may do what the run has refused
            self._found["run"] = {}
            self._show_found()
        self.fields.set_disabled({*locked, PRESET} if locked else locked)
        self.fields.submits = running is not None
        if refused or any(cells[name].value != value for name, value in values.items()):
            self.fields.show_values(values)
            self._check()
        self._mark_edits()

    def fold(self, folded: bool) -> None:
        """Show only what matters during a run: the settings that can change, and those that were changed."""
        if folded != self.folded:
            self.folded = folded
            names = [name for name, cell in self.fields.cells.items() if cell.marked or name in LIVE]
            self.fields.show_only(names if folded else None)
            self.on_resize()

    def _mark_edits(self) -> None:
        for name in LIVE:
            cell = self.fields.cells[name]
            if cell.pending != SENT:
                edited = self._run_config is not None and cell.value != as_text(name, getattr(self._run_config, name))
                cell.pending = EDITED if edited else ""
        self.fields.refresh()
        self._show_hint(self.fields.current.name if self.fields.entered else "")

    def mark(self, cell: Cell, *, reset: bool = False) -> None:
        if self._run_config is None:
            super().mark(cell, reset=reset)
        self._mark_edits()

    @on(Fields.Submitted)
    def _submitted(self, event: Fields.Submitted) -> None:
        """Apply every edit without a problem; where there is no edit, go to the next field."""
        event.stop()
        edits = [cell for cell in self.fields.cells.values() if cell.pending == EDITED]
        values = {cell.name: SETTINGS[cell.name].parse(cell.value) for cell in edits if not cell.problem}
        if not edits:
            self.fields.action_step(1)
        self.fields.show_values({name: as_text(name, value) for name, value in values.items()})
        self._mark_edits()
        values = {name: value for name, value in values.items() if self.fields.cells[name].pending}
        if values:
            self.post_message(self.Applied(values))

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Without an edit to take back, escape leaves the field."""
        return action != "take_back" or self.fields.current.pending == EDITED

    def action_take_back(self) -> None:
        """Show what the run has in place of an edit."""
        name = self.fields.current.name
        if self._run_config is not None:
            self._found["run"].pop(name, None)
            self.fields.show_values({name: as_text(name, getattr(self._run_config, name))})
            self._check()
            self._mark_edits()
