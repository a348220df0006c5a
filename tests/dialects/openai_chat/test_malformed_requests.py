"""Chat Completions: requests that are refused, and those that were recorded."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.openai_chat.read_request import read_request
from aiclient2api.dialects.openai_chat.request import NAME
from aiclient2api.errors import InvalidRequest
from tests.dialects.openai_chat.judge import parsed, read
from tests.recordings import all_recordings

_USER = {"role": "user", "content": "Hi"}


class MalformedTests(SynchronousTestCase):
    """What cannot be understood is refused, by its path."""

    def test_malformed(self) -> None:
        """The field at fault is named."""
        image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,%%%"}}
        odd = {"type": "image_url", "image_url": {"url": "ftp://x"}}
        for fields, param in (
            ({"messages": [{"content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
            ({"messages": [{"role": "user", "content": [5]}]}, "messages[0].content[0]"),
            ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
            ({"messages": [{"role": "user", "content": [image]}]}, "messages[0].content[0]"),
            ({"messages": [{"role": "user", "content": [odd]}]}, "messages[0].content[0]"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
            ({"messages": [{"role": "function", "content": "x"}]}, "messages[0].name"),
            (
                {"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]},
                "messages[0].tool_calls[0].function",
            ),
            (
                {
                    "messages": [
                        {
                            "role": "assistant",
                            "tool_calls": [
                                {"id": "", "type": "function", "function": {"name": "f"}}
                            ],
                        }
                    ]
                },
                "messages[0].tool_calls[0].id",
            ),
            ({"temperature": "hot"}, "temperature"),
            ({"max_tokens": 1e300}, "max_tokens"),
            ({"stop": [5]}, "stop"),
            ({"tools": {}}, "tools"),
            ({"tools": [{"type": "function"}]}, "tools[0].function"),
            ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
            ({"tool_choice": "perhaps"}, "tool_choice"),
            ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
            ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools"),
            ({"reasoning_effort": "ultra"}, "reasoning_effort"),
            ({"thinking": {"type": 5}}, "thinking.type"),
            ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
            ({"metadata": []}, "metadata"),
            ({"extra_body": []}, "extra_body"),
        ):
            error = self.assertRaises(InvalidRequest, read, **fields)
            self.assertTrue(str(error.param).startswith(param), (fields, error.param))

    def test_recordings(self) -> None:
        """Everything that real clients of this dialect were seen to send is understood."""
        seen = 0
        for recording in all_recordings():
            if recording.dialect == NAME and not recording.malformed:
                conversation = read_request(parsed(recording.as_bytes()))
                self.assertEqual(conversation.dropped, (), recording.name)
                self.assertEqual(conversation.streaming, recording.streaming)
                seen += 1
        self.assertGreater(seen, 50)
