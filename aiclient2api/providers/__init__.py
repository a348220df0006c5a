"""
One file per provider: a package of `IProviderFactory` plugins.

Find them with ``getPlugins(IProviderFactory, aiclient2api.providers)``. A third party
adds a file ``aiclient2api/providers/<name>.py`` anywhere on ``sys.path`` (without an
``__init__.py`` beside it) and nothing else.
"""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
