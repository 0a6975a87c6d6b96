// Verifies a token with Auth0's java-jwt, by a secret or by the published keys, and signs claims with a secret.
//
// Reads {"token", "secret"} or {"token", "jwks"} and prints the claims; reads {"claims", "secret"} and prints
// the token.

import com.auth0.jwk.Jwk;
import com.auth0.jwt.JWT;
import com.auth0.jwt.algorithms.Algorithm;
import com.auth0.jwt.interfaces.DecodedJWT;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.security.PublicKey;
import java.security.interfaces.ECPublicKey;
import java.security.interfaces.RSAPublicKey;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

record Question(String token, String secret, Map<String, Object> claims, Keys jwks) {
    record Keys(List<Map<String, Object>> keys) {}
}

class JavaJwt {
    public static void main(String[] arguments) throws Exception {
        var json = new ObjectMapper();
        var asked = json.readValue(System.in, Question.class);
        json.writeValue(System.out, asked.claims() == null ? claims(asked) : token(asked));
    }

    static String token(Question asked) {
        return JWT.create().withPayload(asked.claims()).sign(Algorithm.HMAC256(asked.secret()));
    }

    static Map<String, Object> claims(Question asked) throws Exception {
        var algorithm = asked.secret() == null ? published(asked) : Algorithm.HMAC256(asked.secret());
        DecodedJWT verified = JWT.require(algorithm).withClaimPresence("exp").build().verify(asked.token());
        var claims = new TreeMap<String, Object>();
        verified.getClaims().forEach((name, claim) -> claims.put(name, claim.as(Object.class)));
        return claims;
    }

    /** By the kind of the key, so that the token has no say in it. java-jwt knows no EdDSA. */
    static Algorithm published(Question asked) throws Exception {
        PublicKey key = key(asked.jwks().keys(), JWT.decode(asked.token()).getKeyId());
        return switch (key) {
            case ECPublicKey ec -> Algorithm.ECDSA256(ec, null);
            case RSAPublicKey rsa -> Algorithm.RSA256(rsa, null);
            default -> throw new IllegalArgumentException("no algorithm for " + key.getAlgorithm());
        };
    }

    static PublicKey key(List<Map<String, Object>> published, String id) throws Exception {
        for (var values : published) {
            if (values.get("kid").equals(id)) {
                return Jwk.fromValues(values).getPublicKey();
            }
        }
        throw new IllegalArgumentException("no key " + id + " is published");
    }
}
