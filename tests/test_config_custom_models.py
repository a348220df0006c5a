"""
Models of the operator's own naming: ``custom_models.json``.
"""

from __future__ import annotations

from typing import Any

from aiclient2api.config import Settings
from aiclient2api.values import CustomModel, Sampling
from tests.config_fakes import ConfigTestCase

FULL = {
    "id": "quick",
    "name": "The quick one",
    "alias": "gpt-quick",
    "provider": "sandbox",
    "actualProvider": "openai-custom",
    "actualModel": "gpt-5-mini",
    "contextLength": 400_000,
    "maxTokens": 8192,
    "temperature": 0.2,
    "topP": 0.9,
    "description": "For small things",
}


class CustomModelsCase(ConfigTestCase):
    """A list of models beside a configuration with two providers."""

    def having(self, *models: Any) -> Settings:
        """Load with a list of these models."""
        self.write("custom_models.json", list(models))
        return self.load({"openai_api_key": "sk-a"})

    def wrong(self, *models: Any) -> tuple[str, ...]:
        """Return the faults of a list of these models."""
        self.write("custom_models.json", list(models))
        return self.faults({"openai_api_key": "sk-a"})


class FileTests(ConfigTestCase):
    """The file itself."""

    def test_default_names(self) -> None:
        """Without the key, custom_models.json and configs/custom_models.json are looked for."""
        self.assertEqual(self.load().custom_models, ())
        self.write("configs/custom_models.json", [{"id": "a", "provider": "sandbox"}])
        self.assertEqual([one.id for one in self.load().custom_models], ["a"])
        self.write("custom_models.json", [{"id": "b", "provider": "sandbox"}])
        self.assertEqual([one.id for one in self.load().custom_models], ["b"])

    def test_named(self) -> None:
        """The key and the flag name another."""
        self.write("m.json", [{"id": "c", "provider": "sandbox"}])
        found = self.load({"CUSTOM_MODELS_FILE_PATH": "m.json"})
        self.assertEqual([one.id for one in found.custom_models], ["c"])
        found = self.load({}, flags={"custom_models_file_path": "m.json"})
        self.assertEqual([one.id for one in found.custom_models], ["c"])

    def test_missing(self) -> None:
        """A missing file that was named is a warning."""
        found = self.load({"custom_models_file_path": "m.json"})
        self.assertWarned(found, "custom_models_file_path", str(self.cwd / "m.json"), "no models")

    def test_malformed(self) -> None:
        """What is no JSON, or no list, is a fault beside the others."""
        self.write("custom_models.json", "{")
        self.assertEqual(len(self.faults({"port": "x"})), 2)
        for content in ("{}", "null", '"x"', "5"):
            self.write("custom_models.json", content)
            self.assertFault({}, "custom_models.json: is no JSON list")
        self.write("custom_models.json", '[{"id": "a", "id": "b", "provider": "sandbox"}]')
        self.assertFault({}, 'custom_models.json: [0]."id" is written twice')


class ModelTests(CustomModelsCase):
    """One model."""

    def test_all_of_it(self) -> None:
        """Everything that can be said of a model arrives."""
        found = self.having(FULL)
        self.assertEqual(
            found.custom_models,
            (
                CustomModel(
                    id="quick",
                    provider="openai-custom",
                    model="gpt-5-mini",
                    alias="gpt-quick",
                    owner="sandbox",
                    name="The quick one",
                    description="For small things",
                    context=400_000,
                    sampling=Sampling(temperature=0.2, top_p=0.9, max_tokens=8192),
                ),
            ),
        )
        self.assertEqual(found.warnings, ())

    def test_as_little_as_can_be(self) -> None:
        """A model is called as its id, and whoever lists it answers."""
        found = self.having({"id": "m", "provider": "sandbox"})
        self.assertEqual(
            found.custom_models,
            (CustomModel(id="m", provider="sandbox", model="m", owner="sandbox"),),
        )
        found = self.having({"id": "m", "actual_provider": "sandbox", "actual_model": "x"})
        self.assertEqual(found.custom_models, (CustomModel(id="m", provider="sandbox", model="x"),))

    def test_empty_fields(self) -> None:
        """Fields that a form left empty, and null, are as good as none."""
        model = dict.fromkeys(FULL, "") | {"id": "m", "provider": "sandbox", "topP": None}
        found = self.having(model)
        self.assertEqual(found.custom_models[0].sampling, Sampling())
        self.assertEqual(found.custom_models[0].model, "m")
        self.assertIsNone(found.custom_models[0].alias)
        self.assertIsNone(found.custom_models[0].name)
        self.assertEqual(found.warnings, ())

    def test_zero_is_a_value(self) -> None:
        """A temperature of 0 is one."""
        found = self.having({"id": "m", "provider": "sandbox", "temperature": 0})
        self.assertEqual(found.custom_models[0].sampling.temperature, 0.0)

    def test_faults(self) -> None:
        """Each fault is told with its place in the list, and all at once."""
        found = self.wrong(
            {"provider": "sandbox"},
            {"id": "a"},
            {"id": "b", "provider": "sandbox", "temperature": 3, "topP": -1, "maxTokens": 0},
            {"id": 1.5, "provider": "sandbox", "contextLength": "long"},
            "x",
        )
        self.assertEqual(
            [fault.removeprefix("custom_models.json: ").split(": ")[0] for fault in found],
            [
                "[0].id",
                "[1].actualProvider",
                "[2].maxTokens",
                "[2].temperature",
                "[2].topP",
                "[3].id",
                "[3].contextLength",
                "[4]",
            ],
        )

    def test_strange_keys(self) -> None:
        """A slip is told with the key that was meant."""
        found = self.having({"id": "a", "provider": "sandbox", "temprature": 1})
        self.assertWarned(found, '[0]."temprature"', 'did you mean "temperature"?')


class NameTests(CustomModelsCase):
    """A name means one model."""

    def test_one_id_twice(self) -> None:
        """Of two models with one id the first counts."""
        found = self.having(
            {"id": "a", "provider": "sandbox", "actualModel": "x"},
            {"id": "a", "provider": "sandbox", "actualModel": "y"},
        )
        self.assertEqual([one.model for one in found.custom_models], ["x"])
        self.assertWarned(found, "[1].id: ", "[0] has it already")

    def test_an_id_that_is_an_alias(self) -> None:
        """An id that is another's alias already is not taken either."""
        found = self.having(
            {"id": "a", "alias": "b", "provider": "sandbox"}, {"id": "b", "provider": "sandbox"}
        )
        self.assertEqual([one.id for one in found.custom_models], ["a"])

    def test_an_alias_that_is_taken(self) -> None:
        """A model whose alias is another's name is there without it."""
        found = self.having(
            {"id": "a", "alias": "x", "provider": "sandbox"},
            {"id": "b", "alias": "x", "provider": "sandbox"},
            {"id": "c", "alias": "a", "provider": "sandbox"},
            {"id": "d", "alias": "d", "provider": "sandbox"},
        )
        names = [(one.id, one.alias) for one in found.custom_models]
        self.assertEqual(names, [("a", "x"), ("b", None), ("c", None), ("d", None)])
        self.assertWarned(found, "[1].alias: ", '"x"')
        self.assertWarned(found, "[2].alias: ", '"a"')
        self.assertEqual(len(found.warnings), 2)

    def test_unknown_providers(self) -> None:
        """A model of a provider that is not there is left out, such an owner forgotten."""
        found = self.having(
            {"id": "a", "provider": "sandbx"},
            {"id": "b", "provider": "sample-oauth"},
            {"id": "c", "provider": "sample-oauth", "actualProvider": "sandbox"},
        )
        self.assertEqual([(one.id, one.owner) for one in found.custom_models], [("c", None)])
        self.assertWarned(found, "[0]: ", 'did you mean "sandbox"?')
        self.assertWarned(found, "[1]: sample-oauth is not configured")
        self.assertWarned(found, "[2].provider: sample-oauth is not configured")
