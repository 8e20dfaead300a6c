"""Questions about tokens: whose they are, what they may do, how long they live."""

from __future__ import annotations

from pydantic import SecretStr

from meta_sync.graph.auth import GraphCredential, app_credential
from meta_sync.graph.client import GraphClient
from meta_sync.graph.outcomes import unreadable
from meta_sync.graph.wire import Answered, Identity, TokenInfo, parse_identity, parse_token

__all__ = ["OAuthEndpoints"]


class OAuthEndpoints:
    """Reads about tokens. They raise ``GraphError`` when they fail."""

    def __init__(self, client: GraphClient) -> None:
        self._client = client

    async def debug_token(self, app_id: str, app_secret: SecretStr, token: SecretStr) -> Answered[TokenInfo]:
        """What Meta knows of a token, asked as the app.

        A token that is not valid is an answer, not a failure. Only GET with the token as ``input_token`` is
        documented for this edge, so the client keeps that parameter out of everything it shows.

        Raises
        ------
        GraphError
            The question failed; ``CredentialsError`` means the app id or secret is wrong.
        """
        answer = await self._client.read(
            app_credential(app_id, app_secret), "debug_token", secret_params={"input_token": token}
        )
        if answer.error is not None:
            raise answer.error
        info = parse_token(answer.value)
        if info is None:
            raise unreadable(answer, "Meta's answer does not say whether the token is valid.")
        return Answered(info, answer.usage)

    async def me(self, credential: GraphCredential) -> Answered[Identity]:
        """The person or system user the token speaks for.

        Raises
        ------
        GraphError
            The question failed.
        """
        answer = await self._client.read(credential, "me", params={"fields": "id,name"})
        if answer.error is not None:
            raise answer.error
        identity = parse_identity(answer.value)
        if identity is None:
            raise unreadable(answer, "Meta's answer does not say whose token this is.")
        return Answered(identity, answer.usage)
