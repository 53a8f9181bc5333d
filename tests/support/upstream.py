"""The shapes of the Go program's API (its version 0.1.1) that ours must have: names of definitions and fields."""

from __future__ import annotations

SHAPES: dict[str, frozenset[str]] = {
    "Source": frozenset(
        [
            "config",
            "created_at",
            "created_by",
            "enabled",
            "id",
            "installation_id",
            "name",
            "provider_type",
            "selected_containers",
            "updated_at",
        ]
    ),
    "SourceSummary": frozenset(["document_count", "last_sync_at", "source", "sync_status"]),
    "SyncState": frozenset(
        [
            "completed_at",
            "cursor",
            "error",
            "last_sync_at",
            "next_sync_at",
            "source_id",
            "started_at",
            "stats",
            "status",
        ]
    ),
    "SyncStats": frozenset(
        ["chunks_indexed", "documents_added", "documents_deleted", "documents_updated", "errors"]
    ),
    "SyncAcceptedResponse": frozenset(["source_id", "status"]),
    "User": frozenset(
        [
            "active",
            "created_at",
            "email",
            "id",
            "last_login_at",
            "name",
            "role",
            "team_id",
            "updated_at",
        ]
    ),
    "UserSummary": frozenset(["active", "email", "id", "last_login_at", "name", "role"]),
    "LoginResponse": frozenset(["expires_at", "refresh_token", "token", "user"]),
    "SetupResponse": frozenset(["message", "user"]),
    "Settings": frozenset(
        [
            "auto_suggest_enabled",
            "default_search_mode",
            "max_results_per_page",
            "results_per_page",
            "semantic_search_enabled",
            "sync_enabled",
            "sync_interval_minutes",
            "team_id",
            "updated_at",
            "updated_by",
        ]
    ),
    "VespaStatus": frozenset(
        [
            "can_upgrade",
            "cluster_info",
            "connected",
            "dev_mode",
            "embedding_dim",
            "embedding_provider",
            "embeddings_enabled",
            "endpoint",
            "healthy",
            "indexed_chunks",
            "reindex_required",
            "schema_mode",
            "schema_version",
        ]
    ),
    "VespaClusterInfo": frozenset(
        [
            "container_clusters",
            "content_clusters",
            "hosts",
            "hosts_xml",
            "our_schema_deployed",
            "schemas",
            "services_xml",
        ]
    ),
    "VespaContainerCluster": frozenset(["has_feed", "has_query", "id", "nodes", "port"]),
    "VespaContentCluster": frozenset(["documents", "id", "nodes", "redundancy"]),
    "VespaHost": frozenset(["alias", "hostname"]),
    "ConnectVespaRequest": frozenset(["dev_mode", "endpoint"]),
    "Document": frozenset(
        [
            "created_at",
            "external_id",
            "id",
            "indexed_at",
            "metadata",
            "mime_type",
            "path",
            "source_id",
            "title",
            "updated_at",
        ]
    ),
    "Chunk": frozenset(
        [
            "content",
            "created_at",
            "document_id",
            "embedding",
            "end_char",
            "id",
            "position",
            "source_id",
            "start_char",
        ]
    ),
    "DocumentWithChunks": frozenset(["chunks", "document"]),
    "SourceDocumentsResponse": frozenset(["documents", "limit", "offset", "total"]),
    "RankedChunk": frozenset(["chunk", "document", "highlights", "score"]),
    "SearchResult": frozenset(["mode", "query", "results", "took", "total_count"]),
    "AdminStatsResponse": frozenset(["chunks", "documents", "installations", "sources", "users"]),
    "SourceStats": frozenset(["enabled", "total"]),
    "HealthResponse": frozenset(["components", "status"]),
    "ComponentHealth": frozenset(["message", "status"]),
    "VersionResponse": frozenset(["version"]),
    "ProviderListItem": frozenset(
        ["auth_methods", "configured", "description", "docs_url", "enabled", "name", "type"]
    ),
    "LoginRequest": frozenset(["email", "password"]),
    "RefreshRequest": frozenset(["refresh_token"]),
    "SetupRequest": frozenset(["email", "name", "password"]),
    "CreateUserRequest": frozenset(["email", "name", "password", "role"]),
    "CreateSourceRequest": frozenset(["config", "installation_id", "name", "provider_type"]),
    "UpdateSourceRequest": frozenset(["config", "enabled", "name"]),
    "UpdateSettingsRequest": frozenset(
        [
            "auto_suggest_enabled",
            "default_search_mode",
            "results_per_page",
            "semantic_search_enabled",
            "sync_enabled",
            "sync_interval_minutes",
        ]
    ),
    "UpdateSelectionRequest": frozenset(["selected_containers"]),
    "SourceConfig": frozenset(
        [
            "base_url",
            "branch",
            "channels",
            "credential_id",
            "database_ids",
            "extra",
            "folder_ids",
            "jql",
            "owner",
            "page_ids",
            "paths",
            "project_keys",
            "repository",
            "space_keys",
        ]
    ),
    "AIProviderInfo": frozenset(["base_url", "has_api_key", "is_configured", "model", "provider"]),
    "AISettingsResponse": frozenset(["embedding", "llm"]),
    "AIServiceStatus": frozenset(["available", "embedding_dim", "model", "provider"]),
    "VespaServiceStatus": frozenset(
        [
            "can_upgrade",
            "connected",
            "embedding_dim",
            "embeddings_enabled",
            "healthy",
            "schema_mode",
        ]
    ),
    "AISettingsStatus": frozenset(["effective_search_mode", "embedding", "llm", "vespa"]),
    "UpdateAISettingsRequest": frozenset(["embedding", "llm"]),
    "EmbeddingSettingsInput": frozenset(["api_key", "base_url", "model", "provider"]),
    "LLMSettingsInput": frozenset(["api_key", "base_url", "model", "provider"]),
    "SearchRequest": frozenset(["limit", "mode", "offset", "query", "source_ids"]),
}
