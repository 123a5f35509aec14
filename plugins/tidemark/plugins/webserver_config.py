"""The configuration of Airflow's FAB auth manager, which executes this file where an identity provider is set."""

from flask_appbuilder.const import AUTH_OAUTH

from tidemark.plugins.login import provider, security_manager
from tidemark.settings import settings

_of = settings()

AUTH_TYPE = AUTH_OAUTH
OAUTH_PROVIDERS = [provider(_of)]
SECURITY_MANAGER_CLASS = security_manager(_of)
AUTH_ROLES_SYNC_AT_LOGIN = True
WTF_CSRF_ENABLED = True
