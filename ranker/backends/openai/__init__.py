"""A model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, Ollama, hosted), over plain HTTP.

settings   what is known of a server: where it is, which model, what it can do, where its key is
wire       requests, retries, event streams, errors in one line
probe      finds out once what a server can do
chatlog    the chat template of a model that runs elsewhere
labels     probabilities of labels from the alternatives of single tokens
slots      how many calls at once, live ones first
backend    `Backend`, out of these
"""

from ranker.backends.openai.backend import OpenAIBackend
from ranker.backends.openai.probe import probe_server
from ranker.backends.openai.settings import Capabilities, Choices, Scoring, ServerSettings

__all__ = ["Capabilities", "Choices", "OpenAIBackend", "Scoring", "ServerSettings", "probe_server"]
