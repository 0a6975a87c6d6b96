// Verifies a token with Nimbus, by a secret or by the published keys, and signs claims with a secret.
//
// Reads {"token", "secret"} or {"token", "jwks"} and prints the claims; reads {"claims", "secret"} and prints
// the token.

import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.crypto.Ed25519Verifier;
import com.nimbusds.jose.crypto.MACSigner;
import com.nimbusds.jose.jwk.JWKSet;
import com.nimbusds.jose.jwk.source.ImmutableJWKSet;
import com.nimbusds.jose.proc.JWSKeySelector;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jose.proc.SingleKeyJWSKeySelector;
import com.nimbusds.jose.util.JSONObjectUtils;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;
import javax.crypto.spec.SecretKeySpec;

class Nimbus {
    static final DefaultJWTClaimsVerifier<SecurityContext> EXPIRY =
            new DefaultJWTClaimsVerifier<>(null, Set.of("exp"));

    public static void main(String[] arguments) throws Exception {
        var text = new String(System.in.readAllBytes(), StandardCharsets.UTF_8);
        var asked = JSONObjectUtils.parse(text);
        System.out.print(asked.containsKey("claims") ? token(asked) : claims(asked));
    }

    static String token(Map<String, Object> asked) throws Exception {
        var claims = JWTClaimsSet.parse(JSONObjectUtils.getJSONObject(asked, "claims"));
        var token = new SignedJWT(new JWSHeader(JWSAlgorithm.HS256), claims);
        token.sign(new MACSigner(JSONObjectUtils.getString(asked, "secret")));
        return token.serialize();
    }

    static JWTClaimsSet claims(Map<String, Object> asked) throws Exception {
        var token = SignedJWT.parse(JSONObjectUtils.getString(asked, "token"));
        if (asked.containsKey("secret")) {
            var secret = JSONObjectUtils.getString(asked, "secret").getBytes(StandardCharsets.UTF_8);
            // Whatever the key id, as Spring Security does: a bare secret has none.
            var key = new SecretKeySpec(secret, "HmacSHA256");
            return process(token, new SingleKeyJWSKeySelector<>(JWSAlgorithm.HS256, key));
        }
        var published = JWKSet.parse(JSONObjectUtils.getJSONObject(asked, "jwks"));
        if (token.getHeader().getAlgorithm().equals(JWSAlgorithm.EdDSA)) {
            return withEd25519(token, published);
        }
        var algorithms = Set.of(JWSAlgorithm.ES256, JWSAlgorithm.RS256);
        return process(token, new JWSVerificationKeySelector<>(algorithms, new ImmutableJWKSet<>(published)));
    }

    static JWTClaimsSet process(SignedJWT token, JWSKeySelector<SecurityContext> keys) throws Exception {
        var processor = new DefaultJWTProcessor<SecurityContext>();
        processor.setJWSKeySelector(keys);
        processor.setJWTClaimsSetVerifier(EXPIRY);
        return processor.process(token, null);
    }

    /** The processor, and with it Spring Security, knows no EdDSA; the library does. */
    static JWTClaimsSet withEd25519(SignedJWT token, JWKSet published) throws Exception {
        var key = published.getKeyByKeyId(token.getHeader().getKeyID()).toOctetKeyPair();
        if (!token.verify(new Ed25519Verifier(key))) {
            throw new SecurityException("the signature is wrong");
        }
        EXPIRY.verify(token.getJWTClaimsSet(), null);
        return token.getJWTClaimsSet();
    }
}
